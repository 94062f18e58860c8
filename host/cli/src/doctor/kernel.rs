//! The kernel: vhost_vsock, the VMCI clash, vsock namespaces, and where a lost CID leads.

use super::finding::Finding;
use super::manager::Manager;
use super::surroundings::Surroundings;

pub(super) fn look(here: &Surroundings, manager: &Manager) -> Vec<Finding> {
    let mut findings = vec![kvm(here), vhost_vsock(here, manager)];
    findings.push(vmci(here));
    findings.push(namespace(here));
    findings.extend(fallback(here));
    findings
}

fn kvm(here: &Surroundings) -> Finding {
    let kinds = ["kvm_intel", "kvm_amd", "kvm"];
    match kinds.into_iter().find(|name| here.has_module(name)) {
        Some(name) => Finding::ok("kvm", format!("{name} is there")),
        None => Finding::warning(
            "kvm",
            "no kvm module: guests run emulated, many times slower",
            load(
                here,
                "kvm_intel (or kvm_amd)",
                "switch virtualization on in the firmware, or nesting on in the host above",
            ),
        ),
    }
}

fn vhost_vsock(here: &Surroundings, manager: &Manager) -> Finding {
    const WHAT: &str = "vhost_vsock";
    if here.has_module(WHAT) {
        return Finding::ok(WHAT, "vhost_vsock is there");
    }
    let advice = load(here, WHAT, "use a kernel with CONFIG_VHOST_VSOCK, or guests with hybrid sockets");
    let by_cid: Vec<&str> =
        manager.guests.iter().filter(|guest| guest.cid.is_some()).map(|guest| guest.name.as_str()).collect();
    if by_cid.is_empty() {
        let found = "not loaded: only guests with hybrid sockets can be met here";
        return Finding::warning(WHAT, found, advice);
    }
    Finding::problem(
        WHAT,
        format!("not loaded, so these guests cannot be met by their cid: {}", by_cid.join(" ")),
        advice,
    )
}

/// The vsock core gives the side towards guests to one transport only, whichever comes first.
fn vmci(here: &Surroundings) -> Finding {
    const WHAT: &str = "vmci";
    const ADVICE: &str = "`modprobe -r vmw_vsock_vmci_transport vmw_vmci`, keep it out with \
                          `echo blacklist vmw_vsock_vmci_transport > /etc/modprobe.d/doorbell.conf`, then `modprobe vhost_vsock`";
    if !here.has_module("vmw_vsock_vmci_transport") {
        let found =
            if here.has_module("vmw_vmci") { "vmw_vmci without its vsock transport" } else { "not loaded" };
        return Finding::ok(WHAT, found);
    }
    if here.has_module("vhost_vsock") {
        return Finding::warning(WHAT, "its vsock transport is loaded beside vhost_vsock", ADVICE);
    }
    let found = "its vsock transport is loaded and keeps vhost_vsock out (device or resource busy)";
    Finding::problem(WHAT, found, ADVICE)
}

fn namespace(here: &Surroundings) -> Finding {
    const WHAT: &str = "vsock namespace";
    match here.read("/proc/sys/net/vsock/ns_mode").as_deref() {
        None => Finding::ok(WHAT, "one for the whole host: this kernel has no others"),
        Some("global") => Finding::ok(WHAT, "global"),
        Some(mode) => Finding::problem(
            WHAT,
            format!("{mode}: only guests started in this network namespace can be met"),
            "run doorbelld in the first network namespace, where the mode is global",
        ),
    }
}

/// Newer kernels hand a connection to a CID that nobody has here on to the hypervisor above.
fn fallback(here: &Surroundings) -> Option<Finding> {
    const WHAT: &str = "vsock g2h_fallback";
    let nested = here.has_module("vmw_vsock_virtio_transport") || here.has_module("vmw_vsock_vmci_transport");
    match (here.read("/proc/sys/net/vsock/g2h_fallback")?.as_str(), nested) {
        ("1", true) => Some(Finding::warning(
            WHAT,
            "1: what is sent to a stopped guest's cid leaves this host for the hypervisor above",
            "`sysctl -w net.vsock.g2h_fallback=0`, and the same line in /etc/sysctl.d/doorbell.conf",
        )),
        (value, _) => Some(Finding::ok(WHAT, value)),
    }
}

fn load(here: &Surroundings, module: &str, otherwise: &str) -> String {
    if here.has_loadable_modules() {
        return format!(
            "`modprobe {module}`, and its name in /etc/modules-load.d/doorbell.conf; else {otherwise}"
        );
    }
    format!("this kernel loads no modules: {otherwise}")
}
