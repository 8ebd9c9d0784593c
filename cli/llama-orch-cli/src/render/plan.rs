//! Whether a model fits, with the numbers.

use api_types::ModelFacts;
use serde_json::{Value, json};
use vram_planner::{Basis, Load, Need, Plan, Verdict, gib};

use super::models::parameters;
use super::table::{Look, Tone, cell, draw, pairs, toned};
use super::text::clean_line;

/// The answer with what was asked.
pub(crate) struct Answer<'a> {
    pub(crate) model: &'a str,
    pub(crate) facts: &'a ModelFacts,
    pub(crate) load: &'a Load,
    pub(crate) gpus: u32,
    pub(crate) need: &'a Need,
    pub(crate) plan: &'a Plan,
    /// Why GPUs are missing.
    pub(crate) trouble: Option<&'a str>,
}

pub(crate) fn text(answer: &Answer<'_>, look: Look) -> String {
    let mut text = demand(answer);
    if !answer.plan.verdicts.is_empty() {
        text.push('\n');
        text.push_str(&supply(&answer.plan.verdicts, look));
    }
    if let Some(best) = answer.plan.best() {
        text.push_str(&format!("\n{}\n", clean_line(&best.to_string())));
    } else if answer.trouble.is_none() {
        text.push_str(&format!(
            "\nthere are fewer than {} usable GPUs here\n",
            answer.gpus
        ));
    }
    if let Some(trouble) = answer.trouble {
        text.push_str(&format!("\n{}\n", clean_line(trouble)));
    }
    text
}

fn demand(answer: &Answer<'_>) -> String {
    let Answer {
        facts, load, need, ..
    } = answer;
    let model = [
        Some(clean_line(answer.model)),
        facts.architecture.as_deref().map(clean_line),
        Some(format!("{} parameters", parameters(facts.parameters))),
        facts.quantization.as_deref().map(clean_line),
    ];
    let model: Vec<String> = model.into_iter().flatten().collect();
    let each = if answer.gpus > 1 {
        format!(" on each of {} GPUs", answer.gpus)
    } else {
        String::new()
    };
    let some = |bytes: u64| Some(gib(bytes)).filter(|_| bytes > 0);
    pairs(&[
        ("model", Some(model.join(" · "))),
        (
            "load",
            Some(format!(
                "{} · {} slots of {} tokens · cache {}/{}",
                load.engine, load.slots, load.ctx, load.cache_k, load.cache_v
            )),
        ),
        ("weights", some(need.estimate.weights)),
        ("cache", some(need.estimate.cache)),
        ("state", some(need.estimate.state)),
        ("compute", some(need.estimate.compute)),
        ("beyond", some(need.beyond)),
        (
            "needs",
            Some(format!("{}{each} ({})", gib(need.per_device), basis(need.basis))),
        ),
    ])
}

fn supply(verdicts: &[Verdict], look: Look) -> String {
    let rows = verdicts.iter().map(|verdict| {
        let fits = match verdict.fits {
            true => toned("fits", Tone::Good, look),
            false => toned("does not fit", Tone::Bad, look),
        };
        vec![
            cell(verdict.devices.join(" and ")),
            fits,
            cell(gib(verdict.room)),
            cell(verdict.most_ctx.to_string()),
            cell(verdict.most_slots.to_string()),
        ]
    });
    draw(
        look,
        &["GPU", "MODEL", "FREE", "CONTEXT UP TO", "OR SLOTS UP TO"],
        rows,
    )
}

const fn basis(of: Basis) -> &'static str {
    match of {
        Basis::Estimated => "estimated",
        Basis::Corrected => "corrected",
        Basis::Measured => "measured",
    }
}

pub(crate) fn document(answer: &Answer<'_>) -> Value {
    let need = answer.need;
    let verdict = |verdict: &Verdict| {
        json!({
            "gpus": verdict.devices,
            "fits": verdict.fits,
            "needs_bytes": verdict.need.per_device,
            "free_bytes": verdict.room,
            "most_ctx": verdict.most_ctx,
            "most_slots": verdict.most_slots,
            "unload": verdict.without,
            "why": verdict.to_string(),
        })
    };
    let mut document = json!({
        "model": answer.model,
        "engine": answer.load.engine,
        "ctx": answer.load.ctx,
        "slots": answer.load.slots,
        "fits": answer.plan.fits(),
        "need": {
            "per_gpu_bytes": need.per_device,
            "total_bytes": need.total,
            "weights_bytes": need.estimate.weights,
            "cache_bytes": need.estimate.cache,
            "state_bytes": need.estimate.state,
            "compute_bytes": need.estimate.compute,
            "beyond_bytes": need.beyond,
            "basis": basis(need.basis),
        },
        "verdicts": answer.plan.verdicts.iter().map(verdict).collect::<Vec<_>>(),
    });
    if let Some(trouble) = answer.trouble {
        document["driver_error"] = json!(trouble);
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;
    use api_types::{EngineKind, KvCacheType};
    use vram_planner::{Allowance, Device, Loaded, Request, need, plan};

    #[test]
    fn a_model_that_fits_beside_others_and_not() {
        let model = samples::model();
        let facts = model.facts.unwrap();
        let load = Load {
            engine: EngineKind::Llamacpp,
            engine_version: String::new(),
            ctx: 8192,
            slots: 4,
            cache_k: KvCacheType::F16,
            cache_v: KvCacheType::F16,
            ubatch: 512,
            flash_attention: true,
            unified: false,
        };
        let request = Request {
            model: model.digest,
            facts: &facts,
            load: load.clone(),
            devices: 1,
            allowance: Allowance::default(),
        };
        let device = |index: u64, free: u64| Device {
            name: format!("GPU {index} (NVIDIA GeForce RTX 3090)"),
            total: 24 << 30,
            free,
            reserved: 0,
            loaded: vec![Loaded {
                name: "chat".to_owned(),
                bytes: (23 << 30) - free,
            }],
            others: 1 << 30,
        };
        let need = need(&model.digest, &facts, &load, 1, &[], request.allowance).unwrap();
        for (name, free) in [("plan_fits", 20), ("plan_does_not", 7)] {
            let plan = plan(&request, &[device(0, free << 30), device(1, 3 << 30)], &[]).unwrap();
            let answer = Answer {
                model: "tiny",
                facts: &facts,
                load: &load,
                gpus: 1,
                need: &need,
                plan: &plan,
                trouble: None,
            };
            insta::assert_snapshot!(name, text(&answer, Look::Piped));
            assert_eq!(document(&answer)["fits"], plan.fits());
        }
    }
}
