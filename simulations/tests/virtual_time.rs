//! Time, entropy and the order of things under code that knows nothing of simulations.

use archipelag_simulation_kernel as kernel;
use archipelag_simulations::executor::Executor;
use futures_timer::Delay;
use std::{
    collections::HashMap,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

/// Runs `main` in virtual time, on a thread of its own as each run is.
fn simulate<T: Send + 'static>(
    seed: u64,
    main: impl AsyncFnOnce(&Executor) -> T + Send + 'static,
) -> T {
    std::thread::spawn(move || {
        kernel::start(seed).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let executor = Executor::default();
        let value = runtime.block_on(executor.run(main(&executor)));
        drop((executor, runtime));
        kernel::stop();
        value
    })
    .join()
    .unwrap()
}

#[test]
fn all_clocks_agree_and_waiting_takes_no_time() {
    let real = Instant::now();
    simulate(1, async |_| {
        let (monotonic, wall) = (Instant::now(), SystemTime::now());
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Delay::new(Duration::from_secs(3600)).await;
        let passed = Duration::from_secs(7200);
        assert!(monotonic.elapsed() >= passed);
        assert!(monotonic.elapsed() < passed + Duration::from_millis(5));
        assert_eq!(wall.elapsed().unwrap(), monotonic.elapsed());
        assert_eq!(Duration::from_nanos(kernel::now()), monotonic.elapsed());
    });
    assert!(real.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_skewed_clock_is_wrong_and_its_timers_are_not() {
    simulate(1, async |_| {
        kernel::set_skew(7, -2_000_000_000);
        let right = SystemTime::now();
        let instant = Instant::now();
        let (skewed, same) = kernel::owned_by(7, || (SystemTime::now(), Instant::now()));
        assert_eq!(right.duration_since(skewed).unwrap(), Duration::from_secs(2));
        assert_eq!(instant, same);
    });
}

fn drawn(seed: u64, owner: u32) -> ([u64; 4], Vec<u32>) {
    simulate(seed, async move |_| {
        kernel::owned_by(owner, || {
            let entropy = [(); 4].map(|()| kernel::bits());
            let map: HashMap<u32, ()> = (0..100).map(|number| (number, ())).collect();
            (entropy, map.into_keys().collect())
        })
    })
}

#[test]
fn entropy_is_the_seeds_and_each_owners_own() {
    let (one, order) = drawn(1, 0);
    assert_eq!((one, order.clone()), drawn(1, 0));
    assert_ne!(one, drawn(1, 1).0);
    assert_ne!(one, drawn(2, 0).0);
    // The order of a hash map comes from the process's entropy, which is the seed's, too.
    assert_ne!(order, drawn(2, 0).1);
}

/// In which order ten tasks run that are woken at once.
fn order(seed: u64) -> Vec<u32> {
    simulate(seed, async |executor| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let gate = Arc::new(tokio::sync::Notify::new());
        for number in 0..10 {
            let (seen, gate) = (seen.clone(), gate.clone());
            executor.spawn(async move {
                gate.notified().await;
                seen.lock().unwrap().push(number);
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        gate.notify_waiters();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen.len(), 10);
        seen
    })
}

#[test]
fn seeds_explore_interleavings() {
    assert_eq!(order(1), order(1));
    let different: std::collections::BTreeSet<_> = (0..20).map(order).collect();
    assert!(different.len() > 15, "{} orders of 20 seeds", different.len());
}

#[test]
fn a_crash_drops_all_of_a_nodes_tasks_and_no_others() {
    simulate(1, async |executor| {
        let alive = Arc::new(());
        for owner in [3, 4] {
            let alive = alive.clone();
            let task = async move {
                let _alive = alive;
                std::future::pending::<()>().await;
            };
            archipelag_node::environment::Executor::spawn(&*executor.of(owner), Box::pin(task));
        }
        assert_eq!(Arc::strong_count(&alive), 3);
        executor.drop_all(3);
        assert_eq!(Arc::strong_count(&alive), 2);
        assert_eq!(executor.counts().get(&4), Some(&1));
    });
}

#[test]
fn a_panic_is_reported_and_ends_only_its_task() {
    simulate(1, async |executor| {
        let task = async { panic!("on purpose") };
        archipelag_node::environment::Executor::spawn(&*executor.of(3), Box::pin(task));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(executor.report().panics, [(3, "on purpose".to_owned())]);
    });
}

/// What must end the process is tried in another one: this test program again.
fn in_a_child(name: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program)
        .args(["--exact", name, "--nocapture"])
        .env("ARCHIPELAG_IN_CHILD", "1")
        .output()
        .unwrap();
    assert!(!child.status.success(), "it went on");
    String::from_utf8_lossy(&child.stderr).into_owned()
}

fn is_child() -> bool {
    std::env::var_os("ARCHIPELAG_IN_CHILD").is_some()
}

#[test]
fn a_thread_ends_the_process() {
    if is_child() {
        simulate(1, async |_| drop(std::thread::spawn(|| {})));
    } else {
        let said = in_a_child("a_thread_ends_the_process");
        assert!(said.contains("a thread was started in virtual time"), "{said}");
    }
}

#[test]
fn a_sleep_ends_the_process() {
    if is_child() {
        simulate(1, async |_| std::thread::sleep(Duration::from_secs(1)));
    } else {
        let said = in_a_child("a_sleep_ends_the_process");
        assert!(said.contains("slept in virtual time"), "{said}");
    }
}

/// Past the C library: what only the operating system sees.
#[test]
fn an_unknown_source_of_entropy_ends_a_strict_process() {
    if is_child() {
        simulate(1, async |_| {
            kernel::forbid().unwrap();
            unknown_entropy();
        });
    } else {
        let said = in_a_child("an_unknown_source_of_entropy_ends_a_strict_process");
        assert!(said.contains("asked the system for randomness"), "{said}");
    }
}

#[cfg(target_arch = "x86_64")]
fn unknown_entropy() {
    let mut byte = 0u8;
    // SAFETY: getrandom writes one byte to `byte`; the instruction changes only these registers.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") 318u64 => _,
            in("rdi") &raw mut byte,
            in("rsi") 1,
            in("rdx") 0,
            out("rcx") _,
            out("r11") _,
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn unknown_entropy() {
    panic!("asked the system for randomness: not tried on this processor");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn an_unknown_clock_ends_a_strict_process() {
    if is_child() {
        simulate(1, async |_| {
            kernel::forbid().unwrap();
            // SAFETY: every processor of this kind has the instruction.
            let time = unsafe { std::arch::x86_64::_rdtsc() };
            println!("{time}");
        });
    } else {
        let said = in_a_child("an_unknown_clock_ends_a_strict_process");
        assert!(said.contains("time stamp counter"), "{said}");
    }
}
