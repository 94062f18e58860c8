//! Every bound of the channel, with the lever it takes from an attacker and who enforces it.
//!
//! Called by every module of this crate and by both drivers; trusts nothing. The table in
//! `docs/protocol.md` is compared with this file by a test.

/// The oldest protocol version this code speaks.
pub const VERSION_MIN: u16 = 0;
/// The newest protocol version this code speaks. Both may still change; once 1 is released its bytes are frozen.
#[cfg(not(feature = "previous"))]
pub const VERSION_CURRENT: u16 = 1;
/// The newest protocol version of a build that stands for the one before.
#[cfg(feature = "previous")]
pub const VERSION_CURRENT: u16 = 0;

/// The vsock port the manager listens on. Below 1024, so that no unprivileged process of the host can
/// stand in for a manager that is down.
pub const MANAGER_PORT: u32 = 707;
/// The lowest source port the agent dials from: privileged, so no unprivileged process of the guest has it.
pub const AGENT_PORT_MIN: u32 = 512;
/// The highest source port the agent dials from.
pub const AGENT_PORT_MAX: u32 = 1023;

/// Bytes of the envelope in front of a payload: kind, flags, length, checksum.
pub const HEADER_LEN: usize = 10;
/// Payload bytes of the largest frame. A peer makes the other side reserve this much at most.
pub const PAYLOAD_LEN_MAX: usize = 64 * 1024;
/// Program or output bytes in one frame. Control waits for at most one of these in the sender's own buffer.
pub const CHUNK_LEN_MAX: usize = 32 * 1024;
/// Bulk bytes in flight per direction before the receiver has given credit: what a ring, a cancel or an
/// urgent request can find in front of it.
pub const BULK_WINDOW: u32 = 128 * 1024;

/// Bytes of the largest program. Bounds the disk a request can take in the guest before it is verified.
pub const PROGRAM_LEN_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of the largest program that rides behind a ring: it waits for no credit, so it is no more than a chunk.
pub const PUSH_LEN_MAX: u64 = 16 * 1024;
/// Bytes of the largest file or archive that is put into a guest. Bounds the disk it can take there.
pub const FILE_LEN_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Output bytes that are kept of one stream of one request, at most; a request asks for as much or less.
pub const OUTPUT_LEN_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Output bytes that are kept of one stream where a request does not say; more is dropped and counted.
pub const OUTPUT_LEN_DEFAULT: u64 = 64 * 1024 * 1024;
/// Output bytes of one stream that the guest keeps behind what the manager has stored: more than what a
/// manager can lose of it when its host goes down.
pub const OUTPUT_BEHIND: u64 = 32 * 1024 * 1024;
/// Input bytes of one request, at most. Bounds the manager's disk.
pub const INPUT_LEN_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Input bytes of one request in flight before its program has taken them.
pub const INPUT_WINDOW: u32 = 64 * 1024;

/// Requests of one guest in hand at once: running, on their way, or waiting for their receipt.
pub const HANDS_MAX: usize = 16;
/// Ordinary requests of one guest that run at once, at most.
pub const CONCURRENCY_MAX: u8 = 8;
/// Urgent requests of one guest that run beside the ordinary ones, at most.
pub const URGENT_MAX: usize = 4;

/// Bytes of a guest's name.
pub const NAME_LEN_MAX: usize = 63;
/// Arguments of one program, the program's own name included.
pub const ARGS_MAX: usize = 1024;
/// Environment variables of one program.
pub const ENV_MAX: usize = 1024;
/// Bytes of all arguments, variables and paths of one request: leaves room for the rest of an offer in a frame.
pub const RUN_BYTES_MAX: usize = 48 * 1024;
/// Bytes of a path sent over the channel; the kernel's own PATH_MAX with its final NUL.
pub const PATH_LEN_MAX: usize = 4095;
/// Bytes of any short text a peer may send: versions, rule texts. It is shown to people, escaped.
pub const TEXT_LEN_MAX: usize = 256;
/// Bytes of an interface's name: IFNAMSIZ without its NUL.
pub const LINK_NAME_LEN_MAX: usize = 15;
/// Links of one guest in an acknowledgement: more are cut and the cut is marked.
pub const LINKS_MAX: usize = 256;

/// Bytes of a signature in OpenSSH's form: room for any key that is taken, and for what such a file may hold beside it.
pub const SIGNATURE_LEN_MAX: usize = 4096;
/// Guests that one signature is for, at most.
pub const SIGNED_GUESTS_MAX: u32 = 1 << 20;
/// Steps of a guest's proof: those of the largest number of guests.
pub const PROOF_LEN_MAX: usize = 20;
/// Seconds that a guest's clock may be apart from the one by which a signature's times were chosen.
pub const SIGNED_SKEW_S: u64 = 300;

/// Milliseconds the agent waits for a connection before it tries another source port.
pub const CONNECT_MS_MAX: u64 = 300;
/// Milliseconds from accept to a proved session; bounds what a silent peer can hold.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;
/// Milliseconds between the manager's heartbeats.
pub const HEARTBEAT_MS: u64 = 25_000;
/// Milliseconds of silence after which a peer is gone.
pub const SILENCE_MS_MAX: u64 = 60_000;
/// Milliseconds a frame may take from its first byte to its last.
pub const FRAME_MS_MAX: u64 = 10_000;
/// Milliseconds without progress while program bytes are awaited.
pub const FETCH_MS_MAX: u64 = 30_000;
/// Milliseconds a write to the peer may make no progress.
pub const WRITE_MS_MAX: u64 = 30_000;
/// Milliseconds between an agent's tries while it has been disconnected for less than [`RETRY_EAGER_MS`].
pub const RETRY_MS_MIN: u64 = 250;
/// Milliseconds between an agent's tries, at most, with jitter, later on.
pub const RETRY_MS_MAX: u64 = 5_000;
/// Seconds between an agent's polls, at least: faster than that is what rings are for.
pub const POLL_S_MIN: u32 = 1;
/// Seconds between an agent's polls, at most.
pub const POLL_S_MAX: u32 = 86_400;
/// Milliseconds after a loss during which the agent tries eagerly.
pub const RETRY_EAGER_MS: u64 = 10_000;

/// Output bytes of one stream that a guest may have in a share ahead of what the manager has stored. Bounds the
/// disk that honest output takes there.
pub const SHARE_AHEAD: u64 = 4 * 1024 * 1024;
/// Milliseconds between two looks of an agent into a share, at most.
pub const LOOK_MS_MAX: u64 = 30_000;
/// Milliseconds between two looks while something is on its way through a share.
pub const LOOK_BUSY_MS: u64 = 250;
/// Milliseconds without a movement after which nothing is on its way any longer.
pub const SHARE_CALM_MS: u64 = 30_000;
/// Milliseconds between two beats of an agent that looks into a share, unless it looks less often.
pub const BEAT_MS: u64 = 2_000;
/// Milliseconds without a beat after which a guest that is met in a share is gone.
pub const SHARE_SILENCE_MS: u64 = 90_000;

const _: () = assert!(CHUNK_LEN_MAX < PAYLOAD_LEN_MAX, "a chunk and its head must fit a frame");
const _: () = assert!(CHUNK_LEN_MAX as u64 * 2 <= BULK_WINDOW as u64, "the window must hold two chunks");
const _: () = assert!(SIGNED_GUESTS_MAX == 1 << PROOF_LEN_MAX, "a proof must reach every guest");
const _: () = assert!(RUN_BYTES_MAX < PAYLOAD_LEN_MAX, "a request must fit a frame");
const _: () = assert!(HEARTBEAT_MS * 2 < SILENCE_MS_MAX, "one lost heartbeat must not end a session");
const _: () = assert!(CONCURRENCY_MAX as usize + URGENT_MAX < HANDS_MAX, "a query must find a free hand");
const _: () = assert!(LOOK_MS_MAX * 2 < SHARE_SILENCE_MS, "one beat that comes late must not end a session");
const _: () = assert!(AGENT_PORT_MIN < AGENT_PORT_MAX && AGENT_PORT_MAX < 1024 && MANAGER_PORT < 1024);
