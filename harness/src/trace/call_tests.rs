//! A table of calls as strace prints them, and what they mean.

use super::*;

fn parse(text: &str) -> Result<Call, Reason> {
    let (name, rest) = text.split_at(text.find('(').expect("a bracket"));
    read(name, &args::split(rest).0)
}

fn at(at: u64, length: u64) -> Span {
    Span { at: VirtAddr(at), length }
}

fn file(number: i32, name: Option<&str>) -> Descriptor {
    Descriptor { number, name: name.map(Box::from) }
}

fn mmap(span: Span, prot: u64, flags: u64, file: Descriptor, offset: u64) -> Call {
    Call::Mmap { span, prot, flags, file, offset }
}

#[test]
fn memory_calls_are_read() {
    let table = [
        (
            "mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)",
            mmap(at(0, 8192), 3, 0x22, file(-1, None), 0),
        ),
        (
            "mmap(0x7f0000001000, 4096, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE, \
             3</usr/lib/libc.so.6>, 0x26000)",
            mmap(
                at(0x7f00_0000_1000, 4096),
                5,
                0x812,
                file(3, Some("/usr/lib/libc.so.6")),
                0x26000,
            ),
        ),
        (
            "mmap2(NULL, 4026531840, PROT_NONE, MAP_SHARED, 3</memfd:x>(deleted), 0)",
            mmap(at(0, 0xf000_0000), 0, 1, file(3, Some("/memfd:x")), 0),
        ),
        (
            "old_mmap(NULL, 4096, PROT_READ|0x80, MAP_PRIVATE|MAP_ANONYMOUS|2<<MAP_HUGE_SHIFT, -1, 0)",
            mmap(at(0, 4096), 0x81, 2 << 26 | 0x22, file(-1, None), 0),
        ),
        ("munmap(0x7f0000000000, 34163)", Call::Munmap(at(0x7f00_0000_0000, 34163))),
        ("mprotect(0x1000, 4096, PROT_NONE)", Call::Mprotect { span: at(0x1000, 4096), prot: 0 }),
        (
            "pkey_mprotect(0x1000, 4096, PROT_READ, -1)",
            Call::Mprotect { span: at(0x1000, 4096), prot: 1 },
        ),
        ("pkey_mprotect(0x1000, 4096, PROT_READ, 1)", Call::Other { name: "pkey_mprotect".into() }),
        (
            "mremap(0x1000, 4096, 8192, MREMAP_MAYMOVE)",
            Call::Mremap { old: at(0x1000, 4096), new_length: 8192, flags: 1, new_at: VirtAddr(0) },
        ),
        (
            "mremap(0x1000, 4096, 4096, MREMAP_MAYMOVE|MREMAP_FIXED, 0x5000)",
            Call::Mremap {
                old: at(0x1000, 4096),
                new_length: 4096,
                flags: 3,
                new_at: VirtAddr(0x5000),
            },
        ),
        (
            "madvise(0x1000, 4096, 0x3e7 /* MADV_??? */)",
            Call::Madvise { span: at(0x1000, 4096), advice: 999 },
        ),
        (
            "msync(0x1000, 4096, MS_SYNC|MS_INVALIDATE)",
            Call::Msync { span: at(0x1000, 4096), flags: 6 },
        ),
        ("mincore(0x1000, 12288, [1, 1, 0])", Call::Mincore(at(0x1000, 12288))),
        ("mlock2(0x1000, 1, MLOCK_ONFAULT)", Call::Mlock { span: at(0x1000, 1), flags: 1 }),
        ("munlock(0x1000, 1)", Call::Munlock(at(0x1000, 1))),
        ("brk(NULL)", Call::Brk(VirtAddr(0))),
        ("brk(0x84da000)", Call::Brk(VirtAddr(0x84d_a000))),
        ("mlockall(MCL_CURRENT|MCL_FUTURE)", Call::Mlockall(3)),
        ("munlockall()", Call::Munlockall),
        (
            "remap_file_pages(0x1000, 4096, PROT_NONE, 5, MAP_NONBLOCK)",
            Call::RemapFilePages { span: at(0x1000, 4096), prot: 0, page: 5, flags: 0x1_0000 },
        ),
        ("syscall_0x1c7(0, 0)", Call::Other { name: "syscall_0x1c7".into() }),
    ];
    for (text, wanted) in table {
        assert_eq!(parse(text), Ok(wanted), "{text}");
    }
}

#[test]
fn process_calls_are_read() {
    let reaped = Wait { only: None, nohang: false, reaps: true, child: None };
    let table = [
        ("fork()", Call::Clone(17)),
        ("vfork()", Call::Clone(CLONE_VM | CLONE_VFORK | 17)),
        (
            "clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, \
             child_tidptr=0x7fad4324ca10)",
            Call::Clone(0x120_0000 | 17),
        ),
        (
            "clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD, stack=0x1000, stack_size=0x9000} \
             => {parent_tid=[5]}, 88)",
            Call::Clone(CLONE_VM | CLONE_VFORK | 17),
        ),
        ("clone3(0x10, 88)", Call::Other { name: "clone3".into() }),
        (
            r#"execve("/bin/true", ["a\"b ) = 5 <unfinished ...>"...], 0x7f00 /* 35 vars */)"#,
            Call::Exec { path: "/bin/true".into() },
        ),
        (r#"execveat(AT_FDCWD</>, "x", ["x"], NULL, 0)"#, Call::Exec { path: "x".into() }),
        ("exit_group(3)", Call::Exit { status: 3 }),
        ("exit(-1)", Call::Exit { status: -1 }),
        ("wait4(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL)", Call::Wait(reaped)),
        (
            "wait4(55, 0x7fff, WNOHANG, NULL)",
            Call::Wait(Wait { only: Some(55), nohang: true, ..reaped }),
        ),
        (
            "waitpid(55, [{WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP}], WUNTRACED)",
            Call::Wait(Wait { only: Some(55), reaps: false, ..reaped }),
        ),
        (
            "waitid(P_PID, 55, {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=55}, WEXITED, NULL)",
            Call::Wait(Wait { only: Some(55), child: Some(55), ..reaped }),
        ),
        (
            "waitid(P_ALL, 0, {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=55}, WEXITED|WNOWAIT, NULL)",
            Call::Wait(Wait { reaps: false, child: Some(55), ..reaped }),
        ),
    ];
    for (text, wanted) in table {
        assert_eq!(parse(text), Ok(wanted), "{text}");
    }
}

#[test]
fn what_does_not_fit_a_call_is_named() {
    let table = [
        ("munmap(0x1000)", Reason::MissingArgument { index: 1 }),
        ("munmap(here, 4096)", Reason::NotANumber { text: "here".into() }),
        ("mprotect(0x1000, 4096, PROT_MAGIC)", Reason::UnknownName { name: "PROT_MAGIC".into() }),
        ("clone(child_stack=NULL)", Reason::MissingArgument { index: 1 }),
    ];
    for (text, wanted) in table {
        assert_eq!(parse(text), Err(wanted), "{text}");
    }
}
