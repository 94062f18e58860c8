//! Values: each type's constructor at its limit and one beyond, and what decoding does with the same.

use crate::common::{Message, samples};
use doorbell_wire::codec;
use doorbell_wire::error::Malformed;
use doorbell_wire::frame::Frame;
use doorbell_wire::ids::{
    BootId, Digest, Generation, GuestCid, GuestId, GuestName, GuestPath, InvalidId, LinkName, MacAddress,
    Nonce, PublicKey, RequestId, Sequence, SessionToken, ShortText, Signature, Tick,
};
use doorbell_wire::limits::{
    ARGS_MAX, CHUNK_LEN_MAX, ENV_MAX, FILE_LEN_MAX, LINK_NAME_LEN_MAX, LINKS_MAX, NAME_LEN_MAX,
    OUTPUT_LEN_DEFAULT, OUTPUT_LEN_MAX, PATH_LEN_MAX, PAYLOAD_LEN_MAX, PROGRAM_LEN_MAX, PUSH_LEN_MAX,
    RUN_BYTES_MAX, TEXT_LEN_MAX,
};
use doorbell_wire::message::action::{
    Action, Command, Executable, Form, Input, Limits, LinkSelector, LinkSet, Mode, Payload, Program, Put,
    Run, RunParts, Window,
};
use doorbell_wire::message::outcome::{
    Evidence, FileEvidence, FileKind, Links, Outcome, OutputTotals, Ran, Refusal, Signal, StreamTotal, Usage,
};
use doorbell_wire::message::{
    self, Attach, Attached, Capabilities, Chunk, Credit, Fetch, FromGuest, FromHost, Greeting, InputCredit,
    InputEnd, Kind, Offer, Offsets, Output, Polls, Progress, Push, Resize, Spooled, Stage, Stream, Welcome,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::str::FromStr;

#[test]
fn the_reserved_cids_are_refused() {
    for reserved in [0, 1, 2, u32::MAX] {
        let error = GuestCid::try_from(reserved).unwrap_err();
        assert!(error.to_string().contains(&reserved.to_string()), "{error}");
        assert!(codec::decode::<GuestCid>("cid", &codec::encode("cid", &reserved).unwrap()).is_err());
    }
    for allowed in [3, 4, u32::MAX - 1] {
        let cid = GuestCid::try_from(allowed).unwrap();
        assert_eq!((u32::from(cid), cid.to_string()), (allowed, allowed.to_string()));
        assert_eq!(round_trip(&cid), cid);
    }
}

#[test]
fn a_sequence_starts_at_one_and_fits_a_signed_integer() {
    for refused in [0, 1 << 63, u64::MAX] {
        assert!(Sequence::try_from(refused).is_err(), "{refused}");
        assert!(
            codec::decode::<Sequence>("sequence", &codec::encode("sequence", &refused).unwrap()).is_err()
        );
    }
    for allowed in [1, i64::MAX as u64] {
        let sequence = Sequence::try_from(allowed).unwrap();
        assert_eq!((u64::from(sequence), sequence.to_string()), (allowed, allowed.to_string()));
    }
}

#[test]
fn every_text_is_taken_at_its_limit_and_refused_beyond() {
    limit::<GuestName>(
        "",
        "a",
        NAME_LEN_MAX,
        &["", "-a", "a-", ".a", "a.", "A", "a_b", "a b", "ä", "a/b", "a\0b"],
    );
    limit::<LinkName>(
        "",
        "e",
        LINK_NAME_LEN_MAX,
        &["", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\u{1}", "a\0"],
    );
    limit::<ShortText>("", "t", TEXT_LEN_MAX, &["a\nb", "\u{7f}", "\0", "\u{9b}"]);
    limit::<GuestPath>("/", "p", PATH_LEN_MAX, &["", "a", "./a", "/a\0b"]);
    assert!("a-b.c9".parse::<GuestName>().is_ok());
    assert!("9".parse::<GuestName>().is_ok());
    assert!("".parse::<ShortText>().is_ok());
    assert!("...".parse::<LinkName>().is_ok());
}

#[test]
fn a_refused_value_is_shown_cut_and_escaped() {
    let error = format!("\n{}", "x".repeat(500)).parse::<ShortText>().unwrap_err();
    assert_eq!(error.got.chars().count(), 80);
    assert!(error.to_string().starts_with("text \"\\nxxx") && !error.to_string().contains('\n'));
}

#[test]
fn bytes_have_their_length_and_lower_case_digits() {
    fn check<T>(len: usize)
    where
        T: FromStr<Err = InvalidId>
            + for<'a> TryFrom<&'a [u8], Error = InvalidId>
            + Serialize
            + DeserializeOwned
            + PartialEq
            + Debug,
    {
        let bytes: Vec<u8> = (0..len).map(|index| u8::try_from(index).unwrap() + 0xa0).collect();
        let value = T::try_from(&bytes).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.parse::<T>().unwrap(), value);
        assert_eq!(serde_json::to_string(&value).unwrap(), format!("{hex:?}"), "people read digits");
        assert_eq!(serde_json::from_str::<T>(&format!("{hex:?}")).unwrap(), value);
        assert_eq!(codec::encode("it", &value).unwrap(), bytes, "the channel carries the bytes");
        assert_eq!(round_trip(&value), value);
        for wrong in [&bytes[1..], &[&bytes[..], &[0]].concat()] {
            assert!(T::try_from(wrong).unwrap_err().to_string().contains(&format!("{len} bytes")));
        }
        let longer = format!("{hex}00");
        for wrong in [
            &hex[2..],
            &hex[1..],
            &longer,
            &hex.to_uppercase(),
            &hex.replace("a0", "+0"),
            &hex.replace("a0", "é"),
        ] {
            assert!(wrong.parse::<T>().is_err(), "{wrong}");
            let error = serde_json::from_str::<T>(&format!("{wrong:?}")).unwrap_err();
            assert!(error.to_string().contains("hexadecimal digits"), "{error}");
        }
        assert!(serde_json::from_str::<T>("7").is_err());
        assert!(codec::decode::<T>("it", &bytes[1..]).is_err());
    }
    check::<RequestId>(RequestId::LEN);
    check::<GuestId>(GuestId::LEN);
    check::<BootId>(BootId::LEN);
    check::<Generation>(Generation::LEN);
    check::<Digest>(32);
    check::<Nonce>(32);
    check::<PublicKey>(32);
    check::<Signature>(64);
    check::<SessionToken>(32);
    let id = RequestId::new([0xab; 16]);
    assert_eq!((id.to_string(), format!("{id:?}")), ("ab".repeat(16), "ab".repeat(16)));
}

#[test]
fn a_session_token_is_never_shown() {
    let token = SessionToken::new([0xab; 32]);
    assert_eq!(format!("{token:?}"), "SessionToken(redacted)");
    assert!(!format!("{:?}", samples::welcome()).contains("2222"));
    assert_eq!(token.as_bytes(), &[0xab; 32]);
}

#[test]
fn a_mac_address_is_six_pairs_of_digits() {
    let mac: MacAddress = "52:54:00:AB:cd:0f".parse().unwrap();
    assert_eq!(mac.as_bytes(), &[0x52, 0x54, 0, 0xab, 0xcd, 0x0f]);
    assert_eq!(
        (mac.to_string(), format!("{mac:?}")),
        ("52:54:00:ab:cd:0f".into(), "52:54:00:ab:cd:0f".into())
    );
    assert_eq!(round_trip(&mac), mac);
    let wrong = [
        "",
        "52:54:00:ab:cd",
        "52:54:00:ab:cd:0f:00",
        "52-54-00-ab-cd-0f",
        "5254:00:ab:cd:0f",
        "5:254:00:ab:cd:0f",
        "52:54:00:ab:cd:0g",
        "52:54:00:ab:cd:é",
        "525400abcd0f",
    ];
    for text in wrong {
        assert!(text.parse::<MacAddress>().is_err(), "{text:?}");
    }
}

#[test]
fn a_program_start_is_taken_at_each_limit_and_refused_beyond() {
    start(ARGS_MAX - 1, 0, 1).unwrap();
    assert!(start(ARGS_MAX, 0, 1).unwrap_err().expected.contains(&(ARGS_MAX - 1).to_string()));
    start(0, ENV_MAX, 1).unwrap();
    assert!(start(0, ENV_MAX + 1, 1).unwrap_err().expected.contains(&ENV_MAX.to_string()));
    // "uname" and one argument, one byte for each of the two texts.
    start(1, 0, RUN_BYTES_MAX - 7).unwrap();
    let error = start(1, 0, RUN_BYTES_MAX - 6).unwrap_err();
    assert!(
        error.expected.contains(&RUN_BYTES_MAX.to_string())
            && error.got.contains(&(RUN_BYTES_MAX + 1).to_string())
    );
    let largest = Action::Run(start(1, 0, RUN_BYTES_MAX - 7).unwrap());
    assert!(
        FromHost::Offer(Box::new(samples::offer(largest))).to_frame().is_ok(),
        "what is allowed fits a frame"
    );
    let many = Action::Run(start(ARGS_MAX - 1, ENV_MAX, 10).unwrap());
    assert!(FromHost::Offer(Box::new(samples::offer(many))).to_frame().is_ok());
}

#[test]
fn a_program_start_has_no_nul_and_names_its_variables() {
    let base = || samples::run(samples::program()).parts().clone();
    let refused = |change: fn(&mut RunParts)| {
        let mut parts = base();
        change(&mut parts);
        let bytes = codec::encode("run", &parts).unwrap();
        assert!(codec::decode::<Run>("run", &bytes).is_err(), "decoding runs the same checks");
        Run::try_from(parts).unwrap_err()
    };
    refused(|parts| parts.args.push("a\0".into()));
    refused(|parts| parts.env.push(("A".into(), "\0".into())));
    refused(|parts| parts.env.push(("A\0".into(), String::new())));
    refused(|parts| parts.env.push((String::new(), "a".into())));
    refused(|parts| parts.env.push(("A=B".into(), "a".into())));
    refused(|parts| parts.executable = Executable::InGuest(Command::try_from("a\0".to_owned()).unwrap()));
    assert!(Run::try_from(base()).is_ok());
    assert!(Command::try_from(String::new()).is_err());
}

#[test]
fn a_program_is_taken_at_its_limit_and_refused_beyond() {
    let program = |len| Program::new(Digest::new([1; 32]), len, samples::text("p"));
    assert_eq!(round_trip(&program(PROGRAM_LEN_MAX).unwrap()).len, PROGRAM_LEN_MAX);
    assert!(program(0).is_ok());
    let error = program(PROGRAM_LEN_MAX + 1).unwrap_err();
    assert!(error.expected.contains(&PROGRAM_LEN_MAX.to_string()));
    let unchecked = codec::encode("program", &(Digest::new([1; 32]), PROGRAM_LEN_MAX + 1, "p")).unwrap();
    let error = codec::decode::<Program>("program", &unchecked).unwrap_err().to_string();
    assert!(error.contains("67108865 bytes"), "a refusal names what failed: {error}");
}

#[test]
fn a_list_is_refused_at_its_limit_while_it_is_read() {
    // Counts that no payload of this size can hold: the claim alone is refused, so nothing is reserved for it.
    for (claimed, max) in [(ARGS_MAX + 1, ARGS_MAX), (u32::MAX as usize, ARGS_MAX)] {
        let head = (Executable::InGuest(Command::try_from("a".to_owned()).unwrap()), claimed);
        let error =
            codec::decode::<RunParts>("run", &codec::encode("run", &head).unwrap()).unwrap_err().to_string();
        assert!(error.contains(&format!("at most {max}")), "{error}");
    }
    let head = (Executable::InGuest(Command::try_from("a".to_owned()).unwrap()), ARGS_MAX);
    let error =
        codec::decode::<RunParts>("run", &codec::encode("run", &head).unwrap()).unwrap_err().to_string();
    assert!(!error.contains("at most"), "{error}");
    // A format that tells no count ahead is stopped at the first element too many.
    let json = |count: usize| {
        let link = serde_json::to_string(&samples::link(1)).unwrap();
        format!("{{\"list\":[{}],\"cut\":0}}", vec![link; count].join(","))
    };
    assert_eq!(serde_json::from_str::<Links>(&json(LINKS_MAX)).unwrap().list().len(), LINKS_MAX);
    let error = serde_json::from_str::<Links>(&json(LINKS_MAX + 1)).unwrap_err().to_string();
    assert!(error.contains("at most 256"), "{error}");
}

#[test]
fn links_are_cut_at_their_limit_and_the_cut_is_told() {
    let all = |count| vec![samples::link(1); count];
    assert_eq!(Links::cut(all(LINKS_MAX)).left_out(), 0);
    let cut = Links::cut(all(LINKS_MAX + 3));
    assert_eq!((cut.list().len(), cut.left_out()), (LINKS_MAX, 3));
    assert_eq!(round_trip(&cut), cut);
    let message = samples::acknowledgement(Outcome::Succeeded, Evidence::Links(cut));
    assert!(
        doorbell_wire::message::FromGuest::Acknowledge(Box::new(message)).to_frame().is_ok(),
        "it fits a frame"
    );
    let impossible = codec::encode("links", &(all(1), 1_u32)).unwrap();
    assert!(codec::decode::<Links>("links", &impossible).is_err(), "nothing is left out of a list with room");
}

#[test]
fn a_failure_of_status_zero_and_a_signal_out_of_range_are_refused() {
    for number in [0, 65, 128, 255] {
        let error = Signal::try_from(number).unwrap_err();
        assert!(error.to_string().contains(&number.to_string()));
    }
    for number in [1, 9, 64] {
        let signal = Signal::try_from(number).unwrap();
        assert_eq!((u8::from(signal), signal.to_string()), (number, number.to_string()));
    }
    let read = |bytes: &[u8]| codec::decode::<Outcome>("outcome", bytes);
    assert!(read(&[1, 0]).is_err() && read(&[1, 1]).is_ok());
    assert!(read(&[2, 0]).is_err() && read(&[2, 64]).is_ok() && read(&[2, 65]).is_err());
}

#[test]
fn a_number_in_a_longer_form_reads_as_the_same_value() {
    for bytes in [&[3][..], &[0xfb, 3, 0], &[0xfc, 3, 0, 0, 0], &[0xfd, 3, 0, 0, 0, 0, 0, 0, 0]] {
        let frame = Frame { kind: Kind::Ping, payload: bytes.to_vec() };
        assert_eq!(Message::read(&frame).unwrap(), Message::Host(FromHost::Ping(3)));
    }
    for bytes in [&[0xfe; 17][..], &[0xff]] {
        let frame = Frame { kind: Kind::Ping, payload: bytes[..bytes.len().min(16)].to_vec() };
        assert!(matches!(Message::read(&frame), Err(Malformed::Unreadable { .. })));
    }
}

#[test]
fn a_body_is_written_at_its_limit_and_refused_beyond() {
    // Three bytes of length stand before the text.
    assert_eq!(codec::encode("text", &"x".repeat(PAYLOAD_LEN_MAX - 3)).unwrap().len(), PAYLOAD_LEN_MAX);
    for beyond in [1, 2] {
        let error = codec::encode("text", &"x".repeat(PAYLOAD_LEN_MAX - 3 + beyond)).unwrap_err();
        let (got, max) = ((PAYLOAD_LEN_MAX + beyond) as u64, PAYLOAD_LEN_MAX as u64);
        assert_eq!(error, Malformed::TooLong { what: "text", got, max });
    }
}

#[test]
fn a_refusal_is_one_line_of_bounded_length() {
    let long = codec::encode("text", &format!("a\u{2028}\n{}", "\u{1f}".repeat(3000))).unwrap();
    let error = codec::decode::<ShortText>("text", &long).unwrap_err().to_string();
    assert!(error.chars().count() < 400 && !error.contains('\n'), "{error}");
}

#[test]
fn a_capability_set_keeps_unknown_bits() {
    let both = Capabilities::RUN.with(Capabilities::LINK);
    assert!(both.contains(Capabilities::RUN) && both.contains(Capabilities::LINK));
    assert!(!both.contains(Capabilities::CGROUP_KILL) && !Capabilities::RUN.contains(both));
    assert_eq!(both.with(Capabilities::RUN), both, "a bit that is there stays");
    assert_eq!(round_trip(&Capabilities(1 << 63 | 1)), Capabilities(1 << 63 | 1));
    let all = Capabilities(u64::MAX);
    let first = [Capabilities::RUN, Capabilities::LINK, Capabilities::CGROUP_KILL, Capabilities::LIMITS];
    let first = first.into_iter().fold(Capabilities::TERMINAL.with(Capabilities::FILES), Capabilities::with);
    assert_eq!(all.of_version(0), first, "the first version had these");
    assert_eq!(all.of_version(1), all);
    assert_eq!(
        Capabilities::NAMES.iter().fold(0, |bits, (bit, _)| bits ^ bit.0),
        0x1fff,
        "each bit has one name"
    );
}

#[test]
fn actions_and_links_say_what_they_are() {
    let of = |tell: fn(&Action) -> String| -> Vec<String> {
        samples::actions().iter().map(|(_, action)| tell(action)).collect()
    };
    assert_eq!(
        of(|action| action.name().to_owned()),
        ["run", "link-list", "link-down", "put", "get", "run-reboot", "can"]
    );
    let fetched = of(|action| action.payload().map_or(0, |payload| payload.len).to_string());
    assert_eq!(fetched, ["310", "0", "0", "310", "0", "0", "0"]);
    let kept = of(|action| action.output_len_max().to_string());
    let (default, most) = (OUTPUT_LEN_DEFAULT, OUTPUT_LEN_MAX);
    assert_eq!(
        kept,
        [samples::OUTPUT_MAX, default, default, default, most, default, default].map(|max| max.to_string())
    );
    let reads = of(|action| format!("{:?}", action.input()));
    assert_eq!(reads, ["Stream", "None", "None", "None", "None", "None", "None"]);
    let link = LinkSelector::Mac("52:54:00:12:34:56".parse().unwrap());
    assert_eq!(link.to_string(), "52:54:00:12:34:56");
    assert_eq!(LinkSelector::Name("eth0".parse().unwrap()).to_string(), "eth0");
    assert_eq!(Action::LinkSet(LinkSet { link, up: true }).name(), "link-up");
    let in_guest = Action::Run(samples::run(samples::in_guest()));
    assert_eq!((in_guest.payload(), in_guest.input()), (None, Input::None));
    assert_eq!(in_guest.output_len_max(), OUTPUT_LEN_DEFAULT);
    assert!(samples::link(0x1003).is_up() && !samples::link(0x1002).is_up());
    assert_eq!(samples::text("a b").to_string(), "a b");
    assert!(Stage::Fetched < Stage::Verified && Stage::Journalled < Stage::Started);
}

#[test]
fn a_limit_lets_a_program_run() {
    let with = |change: fn(&mut Limits)| {
        let mut parts = samples::run(samples::in_guest()).parts().clone();
        change(&mut parts.limits);
        let read = codec::decode::<Run>("run", &codec::encode("run", &parts).unwrap());
        assert_eq!(read.is_ok(), Run::try_from(parts.clone()).is_ok(), "decoding runs the same checks");
        Run::try_from(parts)
    };
    for zero in [
        |limits: &mut Limits| limits.memory_max = Some(0),
        |limits: &mut Limits| limits.processes_max = Some(0),
        |limits: &mut Limits| limits.cpu_percent_max = Some(0),
    ] {
        assert!(with(zero).unwrap_err().to_string().contains("a limit of 0"));
    }
    for least in [
        |limits: &mut Limits| limits.memory_max = Some(1),
        |limits: &mut Limits| limits.processes_max = Some(1),
        |limits: &mut Limits| limits.cpu_percent_max = Some(1),
    ] {
        assert!(with(least).unwrap().parts().limits.needs_controllers());
    }
    assert!(!with(|limits| limits.output_len_max = 0).unwrap().parts().limits.needs_controllers());
    assert!(with(|limits| limits.output_len_max = OUTPUT_LEN_MAX).is_ok());
    let error = with(|limits| limits.output_len_max = OUTPUT_LEN_MAX + 1).unwrap_err();
    assert!(error.expected.contains(&OUTPUT_LEN_MAX.to_string()), "{error}");
}

#[test]
fn a_payload_and_a_mode_are_taken_at_their_limit_and_refused_beyond() {
    let payload = |len| Payload::new(Digest::new([1; 32]), len);
    assert_eq!(round_trip(&payload(FILE_LEN_MAX).unwrap()).len, FILE_LEN_MAX);
    assert!(payload(0).is_ok());
    let error = payload(FILE_LEN_MAX + 1).unwrap_err();
    assert!(error.expected.contains(&FILE_LEN_MAX.to_string()), "{error}");
    let unchecked = codec::encode("payload", &(Digest::new([1; 32]), FILE_LEN_MAX + 1)).unwrap();
    assert!(codec::decode::<Payload>("payload", &unchecked).is_err());
    assert_eq!(u16::from(round_trip(&Mode::try_from(0o7777).unwrap())), 0o7777);
    let error = Mode::try_from(0o10000).unwrap_err();
    assert!(error.to_string().contains("10000"), "shown in octal: {error}");
    assert!(codec::decode::<Mode>("mode", &codec::encode("mode", &0o10000_u16).unwrap()).is_err());
}

#[test]
fn a_floor_and_a_trace_are_sequences_or_zero() {
    let max = i64::MAX as u64;
    for (number, fine) in [(0, true), (max, true), (max + 1, false), (u64::MAX, false)] {
        let offer = Offer { sequence: None, floor: number, ..samples::offer(Action::LinkList) };
        let frame = FromHost::Offer(Box::new(offer)).to_frame().unwrap();
        assert_eq!(FromHost::from_frame(&frame).is_ok(), fine, "floor {number}");
        let mut hello = samples::hello();
        hello.claims.sequence_max = number;
        let frame = FromGuest::Hello(Box::new(hello)).to_frame().unwrap();
        assert_eq!(FromGuest::from_frame(&frame).is_ok(), fine, "sequence_max {number}");
    }
}

#[test]
fn the_largest_value_of_each_kind_fits_its_frame() {
    let mut seen = std::collections::BTreeSet::new();
    for message in largest_from_host() {
        let frame = message.to_frame().unwrap_or_else(|error| panic!("{}: {error}", message.kind().name()));
        assert_eq!(FromHost::from_frame(&frame), Ok(message));
        seen.insert(frame.kind);
    }
    for message in largest_from_guest() {
        let frame = message.to_frame().unwrap_or_else(|error| panic!("{}: {error}", message.kind().name()));
        assert_eq!(FromGuest::from_frame(&frame), Ok(message));
        seen.insert(frame.kind);
    }
    for kind in Kind::ALL.iter().filter(|kind| kind.payload_len_max() > 0) {
        assert!(seen.contains(kind), "{} has no largest value here", kind.name());
    }
}

#[test]
fn a_tick_neither_overflows_nor_goes_below_zero() {
    assert_eq!(Tick(u64::MAX - 1).after(5), Tick(u64::MAX));
    assert_eq!(Tick(3).after(4), Tick(7));
    assert_eq!((Tick(3).until(Tick(7)), Tick(7).until(Tick(3))), (4, 0));
}

fn start(args: usize, env: usize, len: usize) -> Result<Run, InvalidId> {
    Run::try_from(RunParts {
        executable: Executable::InGuest(Command::try_from("uname".to_owned())?),
        args: vec!["x".repeat(len); args],
        env: (0..env).map(|_| ("V".to_owned(), String::new())).collect(),
        cwd: None,
        user: None,
        input: Input::None,
        limits: Limits::default(),
        new_privileges: false,
    })
}

#[track_caller]
fn limit<T>(head: &str, unit: &str, max: usize, wrong: &[&str])
where
    T: FromStr<Err = InvalidId> + Debug + DeserializeOwned + Serialize + PartialEq + ToString,
{
    let text = |len: usize| format!("{head}{}", unit.repeat(len - head.len()));
    let largest: T = text(max).parse().unwrap();
    assert_eq!(round_trip(&largest), largest);
    assert_eq!(largest.to_string(), text(max));
    let error = text(max + 1).parse::<T>().unwrap_err();
    assert!(error.expected.contains(&max.to_string()), "{} does not tell its limit {max}", error.expected);
    let too_long = codec::encode("text", &text(max + 1)).unwrap();
    assert!(codec::decode::<T>("text", &too_long).is_err());
    for wrong in wrong {
        assert!(wrong.parse::<T>().is_err(), "{wrong:?}");
    }
}

fn round_trip<T: Serialize + DeserializeOwned>(value: &T) -> T {
    codec::decode("it", &codec::encode("it", value).unwrap()).unwrap()
}

const ID: RequestId = RequestId::new([0xff; 16]);

fn largest_from_host() -> Vec<FromHost> {
    let bytes = vec![0xff; CHUNK_LEN_MAX];
    let (request, offset, size) = (ID, u64::MAX, Window { rows: u16::MAX, columns: u16::MAX });
    let from = Some(Offsets { stdout: u64::MAX, stderr: u64::MAX });
    let nonce = Nonce::new([0xff; 32]);
    let put = Put {
        path: format!("/{}", "p".repeat(PATH_LEN_MAX - 1)).parse().unwrap(),
        payload: Payload::new(Digest::new([0xff; 32]), FILE_LEN_MAX).unwrap(),
        form: Form::Archive,
        mode: Some(Mode::try_from(0o7777).unwrap()),
        owner: Some(samples::text(&"o".repeat(TEXT_LEN_MAX))),
        replace: true,
    };
    let bare = |action| {
        let sequence = Some(Sequence::try_from(i64::MAX as u64).unwrap());
        let (floor, timeout_ms, idempotent) = (i64::MAX as u64, Some(u64::MAX), true);
        Offer { request, sequence, floor, action, timeout_ms, idempotent, signed: None }
    };
    let offer = |action| FromHost::Offer(Box::new(bare(action)));
    let len = usize::try_from(PUSH_LEN_MAX).unwrap();
    let pushed = Push { offer: bare(Action::Put(put.clone())), program: vec![0xff; len] };
    vec![
        FromHost::Push(Box::new(pushed)),
        FromHost::Clock(u64::MAX),
        FromHost::Greeting(Greeting {
            version_min: u16::MAX,
            version_max: u16::MAX,
            nonce,
            host_time_ms: u64::MAX,
        }),
        FromHost::Welcome(Welcome {
            token: SessionToken::new([0xff; 32]),
            host_time_ms: u64::MAX,
            proof: None,
        }),
        offer(Action::Put(put)),
        // Texts of 251 bytes: the shortest whose lengths take three bytes each, so the most of those.
        offer(Action::Run(largest_run(251))),
        offer(Action::Run(largest_run(47))),
        FromHost::Chunk(Chunk { request, offset, bytes: bytes.clone() }),
        FromHost::Input(message::Input { request, offset, bytes }),
        FromHost::OutputCredit(Spooled { request, stream: Stream::Stderr, end: u64::MAX, bytes: u32::MAX }),
        FromHost::Attached(Attached { request, from }),
        FromHost::Noted(request),
        FromHost::Cancel(request),
        FromHost::Ping(u64::MAX),
        FromHost::InputEnd(InputEnd { request, len: u64::MAX }),
        FromHost::Resize(Resize { request, window: size }),
        FromHost::HostBye(doorbell_wire::error::Reason(u16::MAX)),
    ]
}

fn largest_from_guest() -> Vec<FromGuest> {
    let (request, offset, at_us) = (ID, u64::MAX, u64::MAX);
    let output = Output { request, stream: Stream::Stderr, offset, bytes: vec![0xff; CHUNK_LEN_MAX] };
    let mut hello = samples::hello();
    hello.claims.version = u16::MAX;
    hello.claims.agent = samples::text(&"v".repeat(TEXT_LEN_MAX));
    hello.claims.capabilities = Capabilities(u64::MAX);
    hello.claims.sequence_max = i64::MAX as u64;
    hello.claims.clock_us = u64::MAX;
    let mut told = vec![
        FromGuest::Hello(Box::new(hello)),
        FromGuest::Polls(Polls { every_ms: u32::MAX }),
        FromGuest::Fetch(Fetch { request, offset }),
        FromGuest::ChunkCredit(Credit { bytes: u32::MAX }),
        FromGuest::Attach(Attach { request, input: u64::MAX, taken: u64::MAX }),
        FromGuest::Progress(Progress { request, stage: Stage::Started, at_us }),
        FromGuest::Output(output),
        FromGuest::Pong(u64::MAX),
        FromGuest::InputCredit(InputCredit { request, bytes: u32::MAX }),
        FromGuest::GuestBye(doorbell_wire::error::Reason(u16::MAX)),
    ];
    let stream = StreamTotal { kept: u64::MAX, dropped: u64::MAX, digest: Some(Digest::new([0xff; 32])) };
    let usage = Usage {
        cpu_user_us: u64::MAX,
        cpu_system_us: u64::MAX,
        memory_peak: Some(u64::MAX),
        oom_killed: true,
    };
    let most = u64::MAX;
    let ran = Ran {
        started_us: most,
        first_output_us: Some(most),
        exited_us: most,
        ended_us: most,
        usage: Some(usage),
    };
    let mut link = samples::link(u32::MAX);
    (link.index, link.mtu) = (u32::MAX, u32::MAX);
    link.name = "n".repeat(LINK_NAME_LEN_MAX).parse().unwrap();
    let file = FileEvidence {
        path: format!("/{}", "p".repeat(PATH_LEN_MAX - 1)).parse().unwrap(),
        kind: FileKind::Link,
        len: most,
        digest: Some(Digest::new([0xff; 32])),
        mode: Mode::try_from(0o7777).unwrap(),
        uid: u32::MAX,
        gid: u32::MAX,
        entries: most,
    };
    for evidence in [Evidence::Links(Links::cut(vec![link; LINKS_MAX + 1])), Evidence::File(file)] {
        let what = samples::text(&"u".repeat(TEXT_LEN_MAX));
        let mut outcome = samples::acknowledgement(Outcome::Refused(Refusal::Unsupported(what)), evidence);
        outcome.output = OutputTotals { stdout: stream, stderr: stream };
        outcome.ran = Some(ran);
        told.push(FromGuest::Acknowledge(Box::new(outcome)));
    }
    told
}

/// As many arguments and variables of this length as a start may have.
fn largest_run(len: usize) -> Run {
    let name = samples::text(&"n".repeat(TEXT_LEN_MAX));
    let program = Program::new(Digest::new([0xff; 32]), PROGRAM_LEN_MAX, name).unwrap();
    let used = TEXT_LEN_MAX + 1 + TEXT_LEN_MAX + 1;
    let args = ((RUN_BYTES_MAX - used) / (len + 1)).min(ARGS_MAX - 1);
    let limits = Limits {
        memory_max: Some(u64::MAX),
        processes_max: Some(u32::MAX),
        cpu_percent_max: Some(u32::MAX),
        output_len_max: OUTPUT_LEN_MAX,
    };
    let run = Run::try_from(RunParts {
        executable: Executable::Program(program),
        args: vec!["a".repeat(len); args],
        env: Vec::new(),
        cwd: None,
        user: Some(samples::text(&"u".repeat(TEXT_LEN_MAX))),
        input: Input::Terminal(Window { rows: u16::MAX, columns: u16::MAX }),
        limits,
        new_privileges: true,
    });
    run.unwrap()
}
