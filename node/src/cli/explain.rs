//! `archipelag run --explain`: how Islands rank for a job, and why others can't have it.

use super::{
    Global,
    exit::{Exit, Failed, Outcome},
    light::Light,
    output::{self, Progress, line, plain},
    run::Run,
};
use crate::consumer::Plan;
use serde_json::{Value, json};

pub(crate) async fn explain(run: &Run, global: &Global) -> Outcome {
    let light = {
        let _progress = Progress::start("dialling");
        global.light().await?
    };
    let explained = explain_on(run, &light, global.json).await;
    light.stop().await;
    explained
}

async fn explain_on(run: &Run, light: &Light, as_json: bool) -> Outcome {
    let request = run.request(light).await?;
    let plan = light.consumer().await?.plan(&light.wallet, &request).await?;
    if as_json {
        output::json(&as_value(&plan))?
    } else {
        print(&plan)?
    }
    if plan.available < plan.price_max {
        return Err(Failed::refused(format!(
            "the job may cost {} credits, {} are available; `archipelag account show`",
            plan.price_max, plan.available
        )));
    }
    if plan.ranked.is_empty() {
        return Err(Failed::new(Exit::NoIsland, "no Island can take this job now"));
    }
    Ok(())
}

fn as_value(plan: &Plan) -> Value {
    let ranked = plan.ranked.iter().map(|island| {
        let factors = island.lines.iter().map(|line| {
            json!({
                "factor": line.factor.name(), "points": line.points,
                "points_max": line.factor.max(), "reason": line.words,
            })
        });
        json!({
            "host_id": island.node, "account": island.island, "region": island.region,
            "score": island.score, "factors": factors.collect::<Vec<_>>(),
        })
    });
    let excluded =
        plan.excluded.iter().map(|(node, reason)| json!({ "host_id": node, "reason": reason }));
    json!({
        "cargo": plan.cargo.entry.manifest.value.label(),
        "input_bytes": plan.input_bytes,
        "price_max": plan.price_max.to_string(),
        "available": plan.available.to_string(),
        "ranked": ranked.collect::<Vec<_>>(),
        "excluded": excluded.collect::<Vec<_>>(),
    })
}

fn print(plan: &Plan) -> Outcome {
    line(&format!(
        "{}: {} bytes of input, at most {} credits of {} available",
        plan.cargo.entry.manifest.value.label(),
        plan.input_bytes,
        plan.price_max,
        plan.available
    ))?;
    for (place, island) in plan.ranked.iter().enumerate() {
        let (node, region) = (island.node.short(), plain(&island.region));
        line(&format!("{}. {node} in {region}: {} points", place + 1, island.score))?;
        for factor in &island.lines {
            line(&format!("     {}", plain(&factor.to_string())))?;
        }
    }
    for (node, reason) in &plan.excluded {
        line(&format!("-  {}: {}", node.short(), plain(reason)))?;
    }
    Ok(())
}
