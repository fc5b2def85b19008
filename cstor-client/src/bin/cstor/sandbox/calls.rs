//! seccomp: which system calls are refused. Everything else is allowed, since what a library or the C library needs
//! differs from version to version.
//!
//! Refused is what leads out of the sandbox: starting programs, other namespaces, other processes' memory, sockets to
//! services of the user that start programs on request, and kernel interfaces that no extraction needs.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::SandboxError;

/// Refused with EPERM.
const REFUSED: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    // Opens any file of a file system by its number; as root, beside every directory.
    libc::SYS_open_by_handle_at,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bpf,
    // Its operations pass no filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_kexec_load,
    // The crate libc has no number for it there.
    #[cfg(not(all(target_arch = "aarch64", target_env = "musl")))]
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_personality,
];

/// `clone` is refused with any of these (clone(2)). `CLONE_NEWTIME` lies within the exit signal and is known to
/// `clone3` and `unshare` only.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// `ioctl` is refused with these: they type into the terminal, where a shell waits (ioctl_tty(2)). TIOCSTI and
/// TIOCLINUX of asm-generic/ioctls.h, since the crate libc has different types for them.
const TYPING: [u64; 2] = [0x5412, 0x541c];

/// Installs the filters; false where there are none for this processor.
pub(super) fn restrict() -> Result<bool, SandboxError> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(false) };
    for program in programs(arch)? {
        apply_filter(&program)?;
    }
    Ok(true)
}

/// Two, since a filter has one answer for all that it matches.
fn programs(arch: TargetArch) -> Result<[BpfProgram; 2], BackendError> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|&call| (call, Vec::new())).collect();
    let namespaces = NAMESPACES.into_iter().map(|flag| {
        let flag = u64::from(flag.unsigned_abs());
        argument(0, SeccompCmpOp::MaskedEq(flag), flag)
    });
    refused.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    // The kernel looks at the lower half of the number alone.
    let typing = TYPING.into_iter().map(|request| argument(1, SeccompCmpOp::Eq, request));
    refused.insert(libc::SYS_ioctl, typing.collect::<Result<_, _>>()?);
    // Its flags lie in memory, where no filter can look. Told that there is no clone3, the C library uses clone.
    let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let errno = |errno: libc::c_int| SeccompAction::Errno(errno.unsigned_abs());
    let mut first: BpfProgram =
        SeccompFilter::new(refused, SeccompAction::Allow, errno(libc::EPERM), arch)?.try_into()?;
    #[cfg(target_arch = "x86_64")]
    first.splice(0..0, x32_is_killed());
    let second = SeccompFilter::new(absent, SeccompAction::Allow, errno(libc::ENOSYS), arch)?.try_into()?;
    Ok([first, second])
}

fn argument(index: u8, operation: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(index, SeccompCmpArgLen::Dword, operation, value)?])
}

/// x32 has the processor's name but numbers of its own, from 0x40000000, which no rule would match (seccomp(2)).
///
/// The number −1 is above them and is no system call: the kernel answers ENOSYS, whatever a filter says. A tracer that
/// answers a call in the kernel's place (ptrace(2), `strace -e inject`) turns it into this one, so the tests can make
/// calls fail here.
#[cfg(target_arch = "x86_64")]
fn x32_is_killed() -> [seccompiler::sock_filter; 4] {
    let instruction = |code: u32, jt, jf, k| seccompiler::sock_filter { code: code as u16, jt, jf, k };
    [
        // The number is the first field of seccomp_data.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        // To the rules, which do not match it.
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 2, 0, u32::MAX),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, 0x4000_0000),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ]
}

#[cfg(test)]
mod tests;
