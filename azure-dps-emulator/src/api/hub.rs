//! The REST API of the linked hubs, as far as it is emulated. Errors have the form of IoT Hub, which differs
//! from that of the service.
//!
//! | request | answer | credential |
//! | --- | --- | --- |
//! | `GET`, `PUT`, `DELETE /devices/{id}` | the identity | a token of the policy `iothubowner` |
//! | `GET /devices`, `POST /devices/query` for all devices | identities; a page of twins | the same |
//! | `GET`, `PATCH`, `PUT /twins/{id}` | the twin | the same |
//! | `POST /twins/{id}/methods` | the answer of the device | the same |
//! | `GET /devices/{id}/modules` | `[]`: there are no modules | the same, or the device's own |
//! | anything else below `/devices/{id}/` | 501 | the same |
//! | anything else | 501 | a token of the policy `iothubowner` |

mod admission;
pub(crate) mod at_hub;
mod found;
mod identities;
pub(crate) mod methods;
mod query;
mod refusal;
mod twins;

use time::OffsetDateTime;

use crate::api::hub::admission::admit;
use crate::api::hub::found::{check_tags, found, quoted};
use crate::api::hub::refusal::HubRefusal;
use crate::call::Presented;
use crate::call::answer::Answer;
use crate::call::hub::{HubOperation, HubRequest};
use crate::json::json;
use crate::records::hubs::HubDevice;
use crate::state::State;

pub(crate) fn serve(
    state: &mut State,
    request: &HubRequest,
    presented: &Presented,
    tracking_id: &str,
    now: OffsetDateTime,
) -> Answer {
    let admitted = admit(state, request, presented, now);
    let answered = admitted.and_then(|()| match &request.operation {
        HubOperation::PutDevice(id) => identities::put(state, request, id, &presented.body, now),
        HubOperation::ListDevices => identities::list(state, request),
        HubOperation::QueryDevices => query::answer(state, request, &presented.body),
        HubOperation::PatchTwin(id) => twins::write(state, request, id, &presented.body, false, now),
        HubOperation::PutTwin(id) => twins::write(state, request, id, &presented.body, true, now),
        HubOperation::InvokeMethod(id) => methods::begin(state, request, id, &presented.body),
        HubOperation::GetDevice(id) => {
            let device = found(state, &request.hub, id)?;
            Ok(Answer::ok(device.identity()).with_etag(&quoted(&device.etag())))
        }
        HubOperation::GetTwin(id) => {
            let device = found(state, &request.hub, id)?;
            Ok(Answer::ok(device.twin()).with_etag(&quoted(&device.twin.etag())))
        }
        HubOperation::DeleteDevice(id) => {
            check_if_match(found(state, &request.hub, id)?, request.if_match.as_deref())?;
            state.hubs.remove(&request.hub, id);
            Ok(Answer::no_content())
        }
        HubOperation::ListModules(id) => {
            found(state, &request.hub, id)?;
            Ok(Answer::ok(json!([])))
        }
        HubOperation::OtherOfDevice(_) | HubOperation::Other => {
            Err(HubRefusal::new(501, "NotImplemented", NOT_EMULATED))
        }
    });
    answered.unwrap_or_else(|refusal| refusal.into_answer(tracking_id, now))
}

/// The answer of a fault in place of the REST API.
pub(crate) fn fault_answer(status: u16, tracking_id: &str, now: OffsetDateTime) -> Answer {
    let code = if status == 429 { "ThrottlingException" } else { "InjectedFault" };
    HubRefusal::new(status, code, format!("Injected fault {status}")).into_answer(tracking_id, now)
}

fn check_if_match(device: &HubDevice, if_match: Option<&str>) -> Result<(), HubRefusal> {
    let missing = "If-Match is missing; `*` stands for any version";
    let wanted = if_match.ok_or_else(|| HubRefusal::new(412, "PreconditionFailed", missing))?;
    check_tags(&device.etag(), wanted)
}

const NOT_EMULATED: &str = "the emulated hub knows GET, PUT and DELETE /devices/{id}, GET /devices, \
     GET /devices/{id}/modules, GET, PATCH and PUT /twins/{id}, POST /twins/{id}/methods and POST \
     /devices/query; jobs, configurations, files and messages over HTTPS need a hub of Azure";
/// For clients that connect to their hub at the address of the emulator after the assignment.
pub(crate) const NO_HUB_HERE: &str = "this is the provisioning service: let the client end when it is \
     assigned, or give the emulator a hub that the client can reach under its own address";
