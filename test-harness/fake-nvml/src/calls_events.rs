//! Exported calls about event sets. A wait looks at the control file until an event is there or the
//! time is up.

use std::ffi::{c_uint, c_ulonglong};
use std::time::Duration;

use crate::Status;
use crate::driver::{POLL, call, device_call, handle_for};
use crate::event_sets;
use crate::ffi::{EventData, Handle, NO_INSTANCE, Out};
use crate::spec::{Call, Event};

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetCreate(set: Out<Handle>) -> Status {
    call(Call::EventSetCreate, |driver| set.put(event_sets::create(driver))).into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: Handle) -> Status {
    event_sets::free(set).into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(device: Handle, types: c_ulonglong, set: Handle) -> Status {
    device_call(device, Call::RegisterEvents, |gpu, _| {
        if types & !gpu.event_bits() != 0 {
            return Err(Status::NotSupported);
        }
        event_sets::register(set, &gpu.uuid, types)
    })
    .into()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait_v2(set: Handle, data: Out<EventData>, timeout_ms: c_uint) -> Status {
    wait(set, Duration::from_millis(u64::from(timeout_ms)))
        .and_then(|event| data.put(event_data(&event)))
        .into()
}

/// Measures the time by the sleeps it takes: NVML promises no more than "about that long".
fn wait(set: Handle, mut remaining: Duration) -> Result<Event, Status> {
    loop {
        if let Some(event) = call(Call::EventSetWait, |driver| event_sets::take_next(set, driver))? {
            return Ok(event);
        }
        if remaining.is_zero() {
            return Err(Status::Timeout);
        }
        let nap = remaining.min(POLL);
        std::thread::sleep(nap);
        remaining -= nap;
    }
}

fn event_data(event: &Event) -> EventData {
    EventData {
        device: handle_for(&event.gpu_uuid),
        event_type: event.kind.bit(),
        event_data: event.value,
        gpu_instance_id: NO_INSTANCE,
        compute_instance_id: NO_INSTANCE,
    }
}
