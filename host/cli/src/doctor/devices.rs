//! Devices: there, and open to this user. Asked of the kernel by access(2); none is opened.

use super::finding::Finding;
use super::surroundings::Surroundings;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

pub(super) fn look(here: &Surroundings) -> Vec<Finding> {
    let absent = [
        ("/dev/kvm", "guests run emulated, many times slower", "see kvm above"),
        ("/dev/vhost-vsock", "only guests with hybrid sockets can be met here", "see vhost_vsock above"),
    ];
    absent.into_iter().map(|(path, consequence, advice)| device(here, path, consequence, advice)).collect()
}

fn device(here: &Surroundings, path: &str, consequence: &str, advice: &str) -> Finding {
    let Ok(metadata) = here.stat(path) else {
        return Finding::warning(path, format!("not there: {consequence}"), advice);
    };
    let owner = format!("mode {:04o}, owner {}:{}", metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    if !metadata.file_type().is_char_device() {
        return Finding::problem(
            path,
            format!("{owner}, and it is no device"),
            format!("remove {path} and load its module again"),
        );
    }
    if here.may_use(path) {
        return Finding::ok(path, format!("{owner}, open to uid {}", here.uid));
    }
    let group = metadata.gid();
    let advice = if metadata.mode() & 0o060 == 0o060 && group != 0 {
        format!(
            "start guests as root, or as a member of group {group}: `gpasswd -a USER \"$(getent group {group} | cut -d: -f1)\"`"
        )
    } else {
        format!("start guests as root, or give it to a group: `chgrp kvm {path} && chmod 0660 {path}`")
    };
    Finding::warning(path, format!("{owner}, closed to uid {}", here.uid), advice)
}
