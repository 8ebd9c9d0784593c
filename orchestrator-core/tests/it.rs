//! Properties of the pure core against simple models, and a scripted simulator with golden output.

mod it {
    mod dispatch;
    mod eta;
    mod explain;
    mod fixtures;
    mod lines;
    mod policy;
    mod policy_properties;
    mod queue;
    mod rate;
    mod readiness;
    mod session;
    mod sim;
    mod task;
}
