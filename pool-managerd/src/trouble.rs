//! Why something is not ready, and what an operator can do about it: the one table from causes to hints.

use std::error::Error;

use api_types::pool::UnreadyCause;

/// A cause and its cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unready {
    /// The class.
    pub cause: UnreadyCause,
    /// What to do, or what is being waited for.
    pub hint: String,
}

impl Unready {
    /// A cause with a hint of its own.
    #[must_use]
    pub fn new(cause: UnreadyCause, hint: impl Into<String>) -> Self {
        Self {
            cause,
            hint: hint.into(),
        }
    }

    /// A cause with the hint of the table.
    #[must_use]
    pub fn of(cause: UnreadyCause) -> Self {
        Self::new(cause, cure(cause))
    }
}

/// What trouble before a start means for an engine that runs already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    /// Nothing: it serves on.
    Serves,
    /// It takes no new work until the trouble is over.
    Waits,
    /// It finishes what it has and takes no new work.
    Drains,
    /// It is ended.
    Ends,
}

/// What a running engine does about a gate that would not let it start now. A driver that is slow to answer or a model
/// file that was moved says nothing about an engine that still answers; the state of its GPU does.
#[must_use]
pub const fn meanwhile(cause: UnreadyCause) -> Meanwhile {
    match cause {
        UnreadyCause::DeviceMissing | UnreadyCause::GpuTooHot => Meanwhile::Waits,
        UnreadyCause::GpuNeedsReset => Meanwhile::Drains,
        UnreadyCause::GpuUnusable => Meanwhile::Ends,
        _ => Meanwhile::Serves,
    }
}

/// Whether what keeps an engine from being started stays until somebody does something about it.
#[must_use]
pub const fn needs_a_person(cause: UnreadyCause) -> bool {
    matches!(
        cause,
        UnreadyCause::ModelMissing
            | UnreadyCause::BadModel
            | UnreadyCause::EngineMissing
            | UnreadyCause::DeviceMissing
            | UnreadyCause::GpuNeedsReset
            | UnreadyCause::GpuUnusable
    )
}

/// An error with everything below it: `cannot listen: address in use`.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text.push_str(": ");
        text.push_str(&error.to_string());
        below = error.source();
    }
    text
}

/// What helps, where nothing more is known than the cause.
#[must_use]
pub const fn cure(cause: UnreadyCause) -> &'static str {
    match cause {
        UnreadyCause::DriverUnavailable => "check the NVIDIA driver with nvidia-smi",
        UnreadyCause::DeviceMissing => {
            "the engine sees no usable GPU: a build without CUDA, a driver older than its CUDA, or a wrong device mask"
        }
        UnreadyCause::ModelMissing => "put the model file where the pool's configuration says",
        UnreadyCause::ModelFetching => "the model is being fetched",
        UnreadyCause::EngineMissing => "install the engine, or correct the pool's binary or container.image",
        UnreadyCause::EnginePulling => "the engine's image is being fetched from its registry",
        UnreadyCause::ContainerRuntimeUnavailable => {
            "run `podman info` (or `docker info`) and `nvidia-ctk cdi list` as the user of pool-managerd"
        }
        UnreadyCause::Loading => "the model is loading",
        UnreadyCause::LoadTimeout => {
            "raise the pool's load_timeout_ms, or check the disk that holds the model"
        }
        UnreadyCause::GpuTooHot => {
            "it takes work again once it has cooled: check its fans, the air around it and its power limit"
        }
        UnreadyCause::GpuNeedsReset => {
            "drain the pools of the GPU, reset it (nvidia-smi --gpu-reset), then restart pool-managerd"
        }
        UnreadyCause::GpuUnusable => {
            "reset the GPU or reboot the host, then restart pool-managerd; check dmesg for Xid lines"
        }
        UnreadyCause::EngineNotOnGpu => {
            "inference runs on GPUs only: use an engine built with CUDA for this GPU, and no argument that moves layers away"
        }
        UnreadyCause::VramInsufficient => {
            "end what else uses the GPU (GET /v1/node lists it), lower its reservation, or use a smaller model"
        }
        UnreadyCause::EngineStalled => {
            "the engine's decode loop hangs: check dmesg for Xid lines, and its last lines"
        }
        UnreadyCause::VramOom => {
            "use a smaller model, less ctx or fewer slots, or free the GPU (nvidia-smi shows who uses it)"
        }
        UnreadyCause::HostOom => "the host ran out of memory: check dmesg for the kernel's OOM killer",
        UnreadyCause::GpuError => "check dmesg for Xid lines; the GPU may need a reset",
        UnreadyCause::PortTaken => "another program took the engine's port; the next start takes another one",
        UnreadyCause::BadModel => {
            "replace the model file: it is damaged, incomplete or not one this engine reads"
        }
        UnreadyCause::EngineExited => "the engine's last lines say why",
        UnreadyCause::EngineUnhealthy => {
            "the engine runs but does not answer as it must; its log may say why"
        }
        UnreadyCause::RestartBackoff => "the next start follows by itself",
        UnreadyCause::RestartBudgetExhausted => {
            "remove the cause in the last lines, then load the pool again, or replace the model or engine file"
        }
        UnreadyCause::Draining => "takes new work again after a load: llama-orch pool load POOL",
        UnreadyCause::Stopped => "stopped on purpose",
        UnreadyCause::NodeStale => "check that pool-managerd runs and reaches the orchestrator",
    }
}
