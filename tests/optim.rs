//! Ranger against the published code's steps.

mod common;

use candle_core::{Tensor, Var};
use candle_nn::Optimizer;
use common::{close, reference};
use nada::checkpoint;
use nada::optim::{Config, Optimiser, Rule};

#[test]
#[ignore = "needs the reference data: NADA_REFERENCE or ../shared/reference"]
fn ranger_takes_the_published_steps() {
    let file = checkpoint::open(&reference().join("edit/ranger.safetensors")).unwrap();
    let get = |key: String| file.f32(&key, None).unwrap();
    for (case, learning_rate, weight_decay) in [("lr0p01", 0.01, 0.0), ("lr0p5_wd", 0.5, 0.01)] {
        let vars: Vec<Var> = (0..3).map(|i| Var::from_tensor(&get(format!("{case}.p{i}.start"))).unwrap()).collect();
        let mut ranger = Optimiser::new(vars.clone(), Config { rule: Rule::RANGER, learning_rate, weight_decay }).unwrap();
        for step in 1..=14 {
            let pull = |(i, v): (usize, &Var)| (v.as_tensor() * get(format!("grad.step{step:02}.p{i}"))).unwrap().sum_all().unwrap();
            let loss: Tensor = vars.iter().enumerate().map(pull).reduce(|a, b| (a + b).unwrap()).unwrap();
            ranger.backward_step(&loss).unwrap();
            for (i, var) in vars.iter().enumerate() {
                // The published code in f32 and in f64 are 2.4e-7 apart.
                close(&format!("{case} p{i} step {step}"), var, &get(format!("{case}.p{i}.after{step:02}")), 2e-6, 0.0);
            }
        }
    }
}
