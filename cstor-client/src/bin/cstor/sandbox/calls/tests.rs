//! What the filters answer, asked of the programs themselves by a small interpreter: so every refused call can be
//! asked, those too that would do harm, and the numbers of other processors.

use super::*;

const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;
const KILLED: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
/// linux/audit.h: the machine of the ELF format, 64 bits, little endian.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 62 | 0xc000_0000;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 183 | 0xc000_0000;
const I386: u32 = 3 | 0x4000_0000;

/// Runs one program over a `struct seccomp_data`: number, architecture, instruction pointer, six arguments.
fn answer(program: &BpfProgram, arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [number, arch, 0, 0].to_vec();
    data.extend(arguments.iter().flat_map(|&argument| [argument as u32, (argument >> 32) as u32]));
    let (mut at, mut value) = (0, 0);
    loop {
        let step = &program[at];
        at += 1;
        match u32::from(step.code) {
            code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => value = data[step.k as usize / 4],
            code if code == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => value &= step.k,
            code if code == libc::BPF_RET | libc::BPF_K => return step.k,
            code if code == libc::BPF_JMP | libc::BPF_JA => at += step.k as usize,
            code => {
                let holds = match code {
                    code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => value == step.k,
                    code if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => value >= step.k,
                    code if code == libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K => value > step.k,
                    code => panic!("an instruction that is not known here: {code:#x}"),
                };
                at += usize::from(if holds { step.jt } else { step.jf });
            }
        }
    }
}

/// Of both filters: the kernel takes the stricter answer, which is the smaller number, as signed ones (seccomp(2)).
fn asked(arch: u32, number: i64, arguments: [u64; 6]) -> u32 {
    let programs = programs(TargetArch::try_from(std::env::consts::ARCH).unwrap()).unwrap();
    let answers = programs.map(|program| answer(&program, arch, number as u32, arguments) as i32);
    answers.into_iter().min().unwrap() as u32
}

#[test]
fn what_leads_out_is_refused_and_nothing_else() {
    for &call in REFUSED {
        assert_eq!(asked(NATIVE, call, [0; 6]), EPERM, "call {call}");
    }
    assert_eq!(asked(NATIVE, libc::SYS_clone3, [0; 6]), ENOSYS);
    let allowed = [
        libc::SYS_openat2,
        libc::SYS_mkdirat,
        libc::SYS_renameat2,
        libc::SYS_mknodat,
        libc::SYS_kill,
        libc::SYS_wait4,
        libc::SYS_sendmsg,
        libc::SYS_recvmsg,
        libc::SYS_seccomp,
    ];
    for call in allowed {
        assert_eq!(asked(NATIVE, call, [u64::MAX; 6]), ALLOWED, "call {call}");
    }
}

#[test]
fn threads_start_and_namespaces_do_not() {
    let thread = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    let clone = |flags: i32| asked(NATIVE, libc::SYS_clone, [u64::from(flags.unsigned_abs()), 0, 0, 0, 0, 0]);
    assert_eq!(clone(thread), ALLOWED);
    for namespace in NAMESPACES {
        assert_eq!(clone(namespace), EPERM, "{namespace:#x}");
        assert_eq!(clone(namespace | thread), EPERM, "{namespace:#x} with others");
    }
}

#[test]
fn nothing_is_typed_into_the_terminal() {
    // The kernel reads 32 bits of the request.
    for high in [0, 1 << 32] {
        for request in TYPING {
            assert_eq!(asked(NATIVE, libc::SYS_ioctl, [0, request | high, 0, 0, 0, 0]), EPERM, "{request:#x}");
        }
    }
    // FICLONE and TIOCGWINSZ.
    for request in [0x4004_9409, 0x5413] {
        assert_eq!(asked(NATIVE, libc::SYS_ioctl, [0, request, 0, 0, 0, 0]), ALLOWED, "{request:#x}");
    }
}

#[test]
fn other_numberings_are_killed() {
    // 11 is execve there, 59 of x86_64.
    assert_eq!(asked(I386, 11, [0; 6]), KILLED);
    assert_eq!(asked(I386, 3, [0; 6]), KILLED);
    #[cfg(target_arch = "x86_64")]
    for number in [0x4000_0000, 0x4000_0000 | 520, i64::from(u32::MAX) - 1] {
        assert_eq!(asked(NATIVE, number, [0; 6]), KILLED, "{number:#x}");
    }
}

/// It is what a tracer turns a call into that it answers itself; of another architecture it is killed as all are.
#[test]
fn the_number_that_is_no_call_passes() {
    assert_eq!(asked(NATIVE, -1, [u64::MAX; 6]), ALLOWED);
    assert_eq!(asked(I386, -1, [u64::MAX; 6]), KILLED);
}
