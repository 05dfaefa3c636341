//! Baseline: the `wasmtime` library running the same module on the same input in this process, with
//! nothing around it and its default settings.

use super::{Figure, at_once, in_sequence};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use wasmtime::{Engine, InstancePre, Linker, Module, Store};
use wasmtime_wasi::{
    WasiCtxBuilder,
    p1::{self, WasiP1Ctx},
    p2::pipe::{MemoryInputPipe, MemoryOutputPipe},
};

/// Most that a run may print.
const OUTPUT_BYTES: usize = 1 << 20;

fn error(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

async fn run(
    engine: &Engine,
    program: &InstancePre<WasiP1Ctx>,
    input: Bytes,
) -> anyhow::Result<usize> {
    let output = MemoryOutputPipe::new(OUTPUT_BYTES);
    let wasi =
        WasiCtxBuilder::new().stdin(MemoryInputPipe::new(input)).stdout(output.clone()).build_p1();
    let mut store = Store::new(engine, wasi);
    let instance = program.instantiate_async(&mut store).await.map_err(error)?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start").map_err(error)?;
    start.call_async(&mut store, ()).await.map_err(error)?;
    Ok(output.contents().len())
}

pub(super) async fn measure(module: &[u8], input: Bytes, time: Duration) -> anyhow::Result<Figure> {
    let engine = Engine::default();
    let module = Module::new(&engine, module).map_err(error)?;
    let mut linker = Linker::new(&engine);
    p1::add_to_linker_async(&mut linker, |wasi: &mut WasiP1Ctx| wasi).map_err(error)?;
    let program = Arc::new(linker.instantiate_pre(&module).map_err(error)?);
    let once = move || {
        let (engine, program, input) = (engine.clone(), program.clone(), input.clone());
        async move {
            anyhow::ensure!(run(&engine, &program, input).await? > 0, "the module printed nothing");
            Ok(())
        }
    };
    let mut latencies = in_sequence(time, async || once().await).await?;
    let per_second = at_once(super::jobs::AT_ONCE, time, once).await?;
    Ok(Figure { p50_us: latencies.micros(50), per_second })
}
