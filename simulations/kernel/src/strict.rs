//! A trap for sources of time, entropy and threads that nobody thought of.
//!
//! After [`forbid`] the operating system itself ends the process when anything on this thread asks
//! it for one, past the symbols that this crate answers: by a system call, or by reading the
//! processor's time stamp counter, which is how clocks are read without one.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::{
    collections::BTreeMap,
    io,
    sync::atomic::{AtomicBool, Ordering},
};

static STRICT: AtomicBool = AtomicBool::new(false);

/// System calls that give time, entropy or a thread.
const FORBIDDEN: [(libc::c_long, &str); 9] = [
    (libc::SYS_getrandom, "asked the system for randomness"),
    (libc::SYS_clock_gettime, "asked the system for the time"),
    (libc::SYS_gettimeofday, "asked the system for the time"),
    (libc::SYS_clock_nanosleep, "slept"),
    (libc::SYS_nanosleep, "slept"),
    (libc::SYS_timerfd_create, "made a timer of the system"),
    (libc::SYS_clone, "started a thread or a process"),
    (libc::SYS_clone3, "started a thread or a process"),
    (libc::SYS_epoll_pwait, "waited for the outside"),
];

/// From now on whatever on this thread asks for real time, entropy or a thread ends the process with
/// a word of what it was. It can't be taken back.
///
/// # Errors
/// When the kernel does not know how.
pub fn forbid() -> io::Result<()> {
    STRICT.store(true, Ordering::Relaxed);
    on_signal(libc::SIGSYS, said_by_system_call)?;
    forbid_time_stamps()?;
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        FORBIDDEN.iter().map(|(number, _)| (*number, Vec::new())).collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trap, arch);
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

/// Whether real time must not be asked for.
pub(crate) fn is_on() -> bool {
    STRICT.load(Ordering::Relaxed)
}

#[cfg(target_arch = "x86_64")]
fn forbid_time_stamps() -> io::Result<()> {
    on_signal(libc::SIGSEGV, said_by_fault)?;
    // SAFETY: the call takes plain numbers.
    let done = unsafe { libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_SIGSEGV) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn forbid_time_stamps() -> io::Result<()> {
    Ok(())
}

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

fn on_signal(signal: libc::c_int, handler: Handler) -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the action lives through the call, and the handler does only what is allowed in one.
    let done = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn said_by_system_call(
    _: libc::c_int,
    info: *mut libc::siginfo_t,
    _: *mut libc::c_void,
) {
    // `si_syscall` lies behind the call's address (4 + 4 + 4 + padding, then 8 bytes).
    // SAFETY: the kernel gives a filled siginfo of 128 bytes.
    let number = unsafe { info.cast::<u8>().add(24).cast::<i32>().read_unaligned() };
    let known = FORBIDDEN.iter().find(|(known, _)| *known == libc::c_long::from(number));
    crate::interpose::give_up(known.map_or("made a forbidden system call", |(_, words)| words))
}

#[cfg(target_arch = "x86_64")]
extern "C" fn said_by_fault(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    crate::interpose::give_up("something read the time stamp counter, or a bad address")
}
