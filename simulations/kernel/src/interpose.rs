//! The symbols of the C library that this crate answers.
//!
//! Four make time virtual: `clock_gettime`, `getrandom`, `syscall` (std and some crates ask for
//! randomness through it) and `epoll_wait`, where tokio waits. The others are here so that nothing
//! else is overlooked: a thread that is started, or a sleep, ends the process with a reason. On
//! threads whose time is real all of them do what the C library's do.

use crate::{EPOCH, NOW, Nanos, entropy, events, is_active, now};
use libc::{c_int, c_long, c_uint, c_void, size_t, ssize_t};
use std::{
    ffi::CStr,
    sync::atomic::{AtomicPtr, Ordering},
    time::{Duration, Instant, SystemTime},
};

/// What `Instant` counts from: large, so that a moment before the start can be expressed.
const MONOTONIC_BASE: Duration = Duration::from_secs(1_000_000);

/// What a binary must export for crates that look for it by name.
pub const EXPORTED: [&str; 4] = ["clock_gettime", "getrandom", "syscall", "epoll_wait"];

/// Why time can't be virtual in this binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The build does not export a symbol.
    NotExported(&'static str),
    /// A clock or a source of randomness is not answered here.
    NotInterposed(&'static str),
    /// The thread has drawn the keys of its hash maps already.
    UsedThread,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotExported(symbol) => write!(
                f,
                "this binary does not export `{symbol}`: link it with --export-dynamic-symbol={symbol}"
            ),
            Self::UsedThread => f.write_str("a simulation needs a new thread: this one was used"),
            Self::NotInterposed(what) => write!(f, "{what} is not virtual in this binary"),
        }
    }
}

impl std::error::Error for Unusable {}

/// A function of the C library that ours stands before.
struct Next {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Next {
    const fn new(name: &'static CStr) -> Self {
        Self { name, found: AtomicPtr::new(std::ptr::null_mut()) }
    }

    fn get(&self) -> *mut c_void {
        let found = self.found.load(Ordering::Relaxed);
        if !found.is_null() {
            return found;
        }
        // SAFETY: the name is a C string; what is found is a function of the C library.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        if found.is_null() {
            give_up("the C library lacks a function that simulations stand before");
        }
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// Nothing may unwind into C, and nothing that allocates may run here.
pub(crate) fn give_up(why: &str) -> ! {
    let text = "archipelag-simulation-kernel: ";
    for part in [text, why, "\n"] {
        // SAFETY: the pointer and the length are those of one string.
        unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
    }
    std::process::abort()
}

pub(crate) fn check_exported() -> Result<(), Unusable> {
    const NAMES: [&CStr; 4] = [c"clock_gettime", c"getrandom", c"syscall", c"epoll_wait"];
    let ours: [*const c_void; 4] = [
        clock_gettime as *const c_void,
        getrandom as *const c_void,
        syscall as *const c_void,
        epoll_wait as *const c_void,
    ];
    for ((name, symbol), ours) in NAMES.into_iter().zip(EXPORTED).zip(ours) {
        // SAFETY: the name is a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        if !std::ptr::eq(found, ours) {
            return Err(Unusable::NotExported(symbol));
        }
    }
    Ok(())
}

/// Looks whether std sees virtual time.
pub(crate) fn check_effective() -> Result<(), Unusable> {
    if SystemTime::now() != SystemTime::UNIX_EPOCH + EPOCH {
        return Err(Unusable::NotInterposed("SystemTime"));
    }
    let before = Instant::now();
    NOW.set(1);
    let passed = before.elapsed();
    NOW.set(0);
    if passed != Duration::from_nanos(1) {
        return Err(Unusable::NotInterposed("Instant"));
    }
    Ok(())
}

/// How much real time the process has run, for reports of speed and for nothing else; none while it
/// is forbidden to ask.
#[must_use]
pub fn real_elapsed() -> Duration {
    if crate::strict::is_on() {
        return Duration::ZERO;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the C library writes to a timespec of ours.
    unsafe { next_clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

unsafe fn next_clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    static NEXT: Next = Next::new(c"clock_gettime");
    type Function = unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> c_int;
    // SAFETY: this is the function's type.
    let next = unsafe { std::mem::transmute::<*mut c_void, Function>(NEXT.get()) };
    // SAFETY: the caller's arguments are those of clock_gettime.
    unsafe { next(clock, time) }
}

/// What clock `id` says now.
fn read_clock(id: libc::clockid_t) -> Duration {
    let since_start = Duration::from_nanos(now());
    if id != libc::CLOCK_REALTIME && id != libc::CLOCK_REALTIME_COARSE {
        return MONOTONIC_BASE + since_start;
    }
    let skew = entropy::skew();
    let size = Duration::from_nanos(skew.unsigned_abs());
    let time = EPOCH + since_start;
    if skew < 0 { time.saturating_sub(size) } else { time + size }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn clock_gettime(
    id: libc::clockid_t,
    time: *mut libc::timespec,
) -> c_int {
    if !is_active() {
        // SAFETY: the caller's promises are those of clock_gettime.
        return unsafe { next_clock_gettime(id, time) };
    }
    let now = read_clock(id);
    // SAFETY: the caller gives a timespec to write to.
    unsafe {
        (*time).tv_sec = libc::time_t::try_from(now.as_secs()).unwrap_or(libc::time_t::MAX);
        (*time).tv_nsec = c_long::from(now.subsec_nanos());
    }
    0
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(
    buffer: *mut c_void,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    static NEXT: Next = Next::new(c"getrandom");
    type Function = unsafe extern "C" fn(*mut c_void, size_t, c_uint) -> ssize_t;
    if !is_active() {
        // SAFETY: this is the function's type, and the arguments are the caller's.
        return unsafe {
            std::mem::transmute::<*mut c_void, Function>(NEXT.get())(buffer, length, flags)
        };
    }
    // SAFETY: the caller gives `length` bytes to write to.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    entropy::fill(bytes);
    ssize_t::try_from(length).unwrap_or(ssize_t::MAX)
}

/// The C library's takes as many arguments as the system call has; six is the most.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    static NEXT: Next = Next::new(c"syscall");
    type Function =
        unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;
    if number == libc::SYS_getrandom && is_active() {
        let (length, flags) = (usize::try_from(b).unwrap_or(0), c_uint::try_from(c).unwrap_or(0));
        // SAFETY: these are the arguments of the system call getrandom.
        return unsafe { getrandom(a as *mut c_void, length, flags) } as c_long;
    }
    // SAFETY: this is the function's type on the platforms that Rust's std calls it on, and the
    // arguments are the caller's.
    unsafe { std::mem::transmute::<*mut c_void, Function>(NEXT.get())(number, a, b, c, d, e, f) }
}

/// Where a tokio runtime waits: nothing comes from outside, so time goes on to the next event.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    found: *mut libc::epoll_event,
    room: c_int,
    timeout_ms: c_int,
) -> c_int {
    static NEXT: Next = Next::new(c"epoll_wait");
    type Function = unsafe extern "C" fn(c_int, *mut libc::epoll_event, c_int, c_int) -> c_int;
    if !is_active() {
        // SAFETY: this is the function's type, and the arguments are the caller's.
        return unsafe {
            std::mem::transmute::<*mut c_void, Function>(NEXT.get())(epoll, found, room, timeout_ms)
        };
    }
    if timeout_ms != 0 {
        wait(timeout_ms);
    }
    0
}

fn wait(timeout_ms: c_int) {
    let deadline = match u64::try_from(timeout_ms) {
        Ok(timeout_ms) => now().saturating_add(timeout_ms * 1_000_000),
        Err(_) => Nanos::MAX,
    };
    if events::advance(deadline) {
        return;
    }
    if deadline == Nanos::MAX {
        give_up(
            "nothing can happen any more: no task is ready, no timer is set, no message is on its way",
        );
    }
    NOW.set(deadline);
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    main: extern "C" fn(*mut c_void) -> *mut c_void,
    argument: *mut c_void,
) -> c_int {
    static NEXT: Next = Next::new(c"pthread_create");
    type Function = unsafe extern "C" fn(
        *mut libc::pthread_t,
        *const libc::pthread_attr_t,
        extern "C" fn(*mut c_void) -> *mut c_void,
        *mut c_void,
    ) -> c_int;
    if is_active() {
        give_up("a thread was started in virtual time: it would run at its own pace");
    }
    // SAFETY: this is the function's type, and the arguments are the caller's.
    unsafe {
        std::mem::transmute::<*mut c_void, Function>(NEXT.get())(thread, attributes, main, argument)
    }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nanosleep(
    time: *const libc::timespec,
    left: *mut libc::timespec,
) -> c_int {
    static NEXT: Next = Next::new(c"nanosleep");
    type Function = unsafe extern "C" fn(*const libc::timespec, *mut libc::timespec) -> c_int;
    if is_active() {
        give_up("a thread slept in virtual time: it would sleep for ever");
    }
    // SAFETY: this is the function's type, and the arguments are the caller's.
    unsafe { std::mem::transmute::<*mut c_void, Function>(NEXT.get())(time, left) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn clock_nanosleep(
    clock: libc::clockid_t,
    flags: c_int,
    time: *const libc::timespec,
    left: *mut libc::timespec,
) -> c_int {
    static NEXT: Next = Next::new(c"clock_nanosleep");
    type Function = unsafe extern "C" fn(
        libc::clockid_t,
        c_int,
        *const libc::timespec,
        *mut libc::timespec,
    ) -> c_int;
    if is_active() {
        give_up("a thread slept in virtual time: it would sleep for ever");
    }
    // SAFETY: this is the function's type, and the arguments are the caller's.
    unsafe { std::mem::transmute::<*mut c_void, Function>(NEXT.get())(clock, flags, time, left) }
}
