//! Exports the symbols that stand before those of the C library: some crates look them up by name.

fn main() {
    for symbol in ["clock_gettime", "getrandom", "syscall", "epoll_wait"] {
        println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol={symbol}");
    }
}
