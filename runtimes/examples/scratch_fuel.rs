use std::time::Instant;
use wasmtime::*;
use wasmtime_wasi::{WasiCtxBuilder, p1::{self, WasiP1Ctx}, p2::pipe::{MemoryInputPipe, MemoryOutputPipe}};
async fn once(e: &Engine, pre: &InstancePre<WasiP1Ctx>, input: &str, mode: &str) -> Result<(f64, u64)> {
    let out = MemoryOutputPipe::new(64 << 20);
    let w = WasiCtxBuilder::new().arg("cargo").stdin(MemoryInputPipe::new(input.to_owned())).stdout(out.clone()).build_p1();
    let mut s = Store::new(e, w);
    if mode.contains("fuel") { s.set_fuel(u64::MAX / 2)?; s.fuel_async_yield_interval(Some(10_000_000))?; }
    if mode.contains("epoch") { s.set_epoch_deadline(1 << 40); }
    let t = Instant::now();
    let i = pre.instantiate_async(&mut s).await?;
    let r = i.get_typed_func::<(), ()>(&mut s, "_start")?.call_async(&mut s, ()).await;
    let d = t.elapsed().as_secs_f64() * 1e3;
    if let Err(e) = r { if e.downcast_ref::<wasmtime_wasi::I32Exit>().is_none_or(|x| x.0 != 0) { println!("ERR {e:?}"); } }
    let c = out.contents(); if !String::from_utf8_lossy(&c).contains("done") { println!("{}", String::from_utf8_lossy(&c[..c.len().min(300)])); }
    Ok((d, if mode.contains("fuel") { u64::MAX / 2 - s.get_fuel()? } else { 0 }))
}
#[tokio::main]
async fn main() -> Result<()> {
    let doc = format!("{{\"text\":\"{}\"}}", "lorem ipsum dolor sit amet ".repeat(8 * 1024 * 1024 / 27));
    let csv = format!("{{\"csv\":\"{}\"}}", "a,b,c\\n".to_owned() + &"1,2.5,foo\\n".repeat(200_000));
    let txt = format!("{{\"text\":\"{}\"}}", "lorem ipsum dolor sit amet. ".repeat(2 * 1024 * 1024 / 28));
    for (name, input) in [("document-sha256", &doc), ("csv-stats", &csv), ("text-stats", &txt)] {
        let bytes = std::fs::read(format!("/work/main/node/starter/{name}/module.wasm"))?;
        let mut engines = vec![];
        for mode in ["plain", "epoch", "fuel", "fuel+epoch", "nan", "nan+fuel"] {
            let mut c = Config::new();
            c.consume_fuel(mode.contains("fuel")).epoch_interruption(mode.contains("epoch")).cranelift_nan_canonicalization(mode.contains("nan"));
            let e = Engine::new(&c)?; let t = Instant::now(); let m = Module::new(&e, &bytes)?; let ct = t.elapsed();
            let mut l = Linker::new(&e); p1::add_to_linker_async(&mut l, |s| s)?; let pre = l.instantiate_pre(&m)?;
            engines.push((mode, e, pre, ct, vec![], 0));
        }
        for _ in 0..9 { for x in &mut engines { let (d, f) = once(&x.1, &x.2, input, x.0).await?; x.4.push(d); x.5 = f; } }
        for (mode, _, _, ct, mut v, f) in engines { v.sort_by(f64::total_cmp); println!("{name} {mode}: min {:.1} ms p50 {:.1} ms, compile {ct:?}, fuel {f}", v[0], v[4]); }
    }
    Ok(())
}
