//! What a guest's NIC sent, read from the capture that QEMU's network back end writes.
//!
//! Called by [`crate::guest`]. The capture holds both directions; only the source address tells them apart.

use std::path::Path;

/// Frames in a pcap file whose source is `mac`. A record that is still being written does not count.
#[must_use]
pub fn sent_by(file: &Path, mac: [u8; 6]) -> usize {
    let bytes = std::fs::read(file).unwrap_or_default();
    let mut rest = bytes.get(FILE_HEADER..).unwrap_or_default();
    let mut sent = 0;
    while let Some((header, behind)) = rest.split_at_checked(RECORD_HEADER) {
        let length = u32::from_le_bytes(header[8..12].try_into().expect("four bytes"));
        let Some((frame, next)) = behind.split_at_checked(length as usize) else { break };
        sent += usize::from(frame.get(6..12) == Some(mac.as_slice()));
        rest = next;
    }
    sent
}

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_frames_of_that_source_count() {
        let ours = [2; 6];
        let mut file = vec![0; FILE_HEADER];
        for source in [ours, [3; 6], ours] {
            file.extend([0; 8]);
            file.extend(14_u32.to_le_bytes());
            file.extend(14_u32.to_le_bytes());
            file.extend([0xff; 6].into_iter().chain(source).chain([8, 0]));
        }
        let path = std::env::temp_dir().join(format!("frames-{}.pcap", std::process::id()));
        std::fs::write(&path, &file).unwrap();
        assert_eq!(sent_by(&path, ours), 2);
        std::fs::write(&path, &file[..file.len() - 1]).unwrap();
        assert_eq!(sent_by(&path, ours), 1);
        std::fs::remove_file(&path).unwrap();
    }
}
