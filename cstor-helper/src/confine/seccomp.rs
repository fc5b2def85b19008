//! The system calls that the helper may make once it serves; any other ends it at once (SIGSYS).
//!
//! A call of another architecture, and one of the x32 ABI, is any other. What an allowed call may do to
//! files is Landlock's part: a filter sees numbers, not what pointers point to.

use nix::libc::{
    F_GETFD, PROT_EXEC, STDERR_FILENO, SYS_brk, SYS_close, SYS_exit_group, SYS_fcntl, SYS_fgetxattr, SYS_fstat,
    SYS_getpid, SYS_gettid, SYS_mmap, SYS_mprotect, SYS_munmap, SYS_openat2, SYS_recvmsg, SYS_rt_sigprocmask,
    SYS_sendmsg, SYS_sigaltstack, SYS_tgkill, SYS_tkill, SYS_write, c_int, c_long,
};
use rustix::process::getpid;
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    apply_filter,
};

/// On which arguments a call is allowed, counted from 0. All of them are `int` to the kernel, or flags
/// in the lower half.
enum If {
    Any,
    Is(u8, c_int),
    Lacks(u8, c_int),
    IsMyself(u8),
}

const ALLOWED: &[(c_long, If)] = &[
    // The conversation. Its socket has one peer and is the only one there is.
    (SYS_recvmsg, If::Any),
    (SYS_sendmsg, If::Any),
    // Opening. No `openat` and no `open`, which resolve without RESOLVE_ flags, and above all no
    // `open_by_handle_at`: CAP_DAC_READ_SEARCH is what it asks for ("Shocker").
    (SYS_openat2, If::Any),
    (SYS_fstat, If::Any),
    (SYS_fgetxattr, If::Any),
    (SYS_close, If::Any),
    // In a debug build, dropping a descriptor first looks whether it is one.
    (SYS_fcntl, If::Is(1, F_GETFD)),
    // Memory for messages. No page becomes executable.
    (SYS_brk, If::Any),
    (SYS_mmap, If::Lacks(2, PROT_EXEC)),
    (SYS_munmap, If::Any),
    // The allocator of musl reserves pages for its tables and opens them one by one.
    (SYS_mprotect, If::Lacks(2, PROT_EXEC)),
    // The end. Rust takes down the stack of its overflow handler first.
    (SYS_sigaltstack, If::Any),
    (SYS_exit_group, If::Any),
    // A panic says what it is and aborts: glibc by tgkill, musl by tkill.
    (SYS_write, If::Is(0, STDERR_FILENO)),
    (SYS_rt_sigprocmask, If::Any),
    (SYS_getpid, If::Any),
    (SYS_gettid, If::Any),
    (SYS_tgkill, If::IsMyself(0)),
    (SYS_tkill, If::IsMyself(0)),
    // The number −1 is no call. A tracer that answers a call in the kernel's place (ptrace(2), `strace
    // -e inject`) turns it into this one; so the tests can make calls fail.
    (u32::MAX as c_long, If::Any),
];

/// Filters the calls of this thread from here on; `false` where the kernel does not filter, or the
/// numbers for this architecture are not known.
pub(crate) fn install() -> Result<bool, Error> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(false) };
    match apply_filter(&program(arch)?) {
        Ok(()) => Ok(true),
        Err(Error::Seccomp(_)) => Ok(false),
        Err(other) => Err(other),
    }
}

fn program(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let mut rules = std::collections::BTreeMap::new();
    for (call, condition) in ALLOWED {
        let condition = match *condition {
            If::Any => None,
            If::Is(argument, value) => Some((argument, Eq, value)),
            If::Lacks(argument, flag) => Some((argument, MaskedEq(u64::from(flag.unsigned_abs())), 0)),
            If::IsMyself(argument) => Some((argument, Eq, getpid().as_raw_nonzero().get())),
        };
        let rule = condition
            .map(|(argument, compare, value)| {
                let value = u64::from(value.unsigned_abs());
                SeccompRule::new(vec![SeccompCondition::new(argument, Dword, compare, value)?])
            })
            .transpose()?;
        rules.insert(*call, Vec::from_iter(rule));
    }
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?.try_into()
}
