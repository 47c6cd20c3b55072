//! Whom the CUSTOM policies of a service have asked, before anything else is decided.

use std::sync::Arc;

use proto::Name;

use crate::{
    derive::Reads,
    inputs::Inputs,
    mesh::{
        name::{Key, PortKey, ServiceKey},
        service,
    },
    policy::{
        authorization::Judgement,
        extension_provider::{ExtAuthz, Provider},
    },
};

/// A provider and the policies whose matches it decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(crate) name: Name,
    pub(crate) provider: Arc<ExtAuthz>,
    /// The service that answers.
    pub(crate) service: ServiceKey,
    pub(crate) policies: Vec<(Key, Arc<Judgement>)>,
}

impl Asked {
    /// The port of the service, as that waypoint reaches it.
    pub(crate) fn port(&self, waypoint: &Key) -> PortKey {
        PortKey::new(waypoint, &self.service, self.provider.port)
    }
}

/// Takes out of the judgements those that a provider decides, by the names of the providers. Those whose
/// provider cannot be asked stay, and deny.
pub(crate) fn bind(
    reads: &Reads,
    inputs: &Inputs,
    judgements: &mut Vec<(Key, Arc<Judgement>)>,
) -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    judgements.retain(|(key, judgement)| {
        let Some(name) = judgement.asks.as_ref().filter(|_| !judgement.dry_run) else { return true };
        let policy = (key.clone(), Arc::clone(judgement));
        if let Some(known) = asked.iter_mut().find(|asked| asked.name == *name) {
            known.policies.push(policy);
            return false;
        }
        let Ok((provider, service)) = resolve(reads, inputs, name) else { return true };
        asked.push(Asked { name: name.clone(), provider, service, policies: vec![policy] });
        false
    });
    asked.sort_by(|one, other| one.name.cmp(&other.name));
    asked
}

/// The provider of that name and its service, or why it cannot be asked.
pub(crate) fn resolve(
    reads: &Reads,
    inputs: &Inputs,
    name: &Name,
) -> Result<(Arc<ExtAuthz>, ServiceKey), String> {
    let provider = match inputs.providers.get(reads, name).map(|provider| &**provider) {
        Some(Provider::Asks(provider)) => Arc::clone(provider),
        Some(Provider::Unusable) => {
            return Err(format!(
                "extension provider {name:?} is wrong in the mesh configuration, whose status says why"
            ));
        }
        None => {
            return Err(format!(
                "the mesh configuration has no extension provider {name:?} that can be asked"
            ));
        }
    };
    let ExtAuthz { namespace, host, port, .. } = &*provider;
    let named = inputs.services.bucket(reads, &service::Bucket::Host(host.clone()));
    let mut found = named.filter(|(key, _)| namespace.as_ref().is_none_or(|wanted| *wanted == key.namespace));
    let Some((service, row)) = found.next() else {
        return Err(format!("nothing has the host {host} of extension provider {name:?}"));
    };
    if found.next().is_some() {
        return Err(format!(
            "several namespaces have the host {host} of extension provider {name:?}; write service: NAMESPACE/{host}"
        ));
    }
    if row.port(*port).is_none() {
        return Err(format!("{host} of extension provider {name:?} has no port {port}"));
    }
    if row.follows_caller() {
        return Err(format!(
            "{host} of extension provider {name:?} leads to whatever a caller asks for; give its entry resolution: DNS or STATIC"
        ));
    }
    let service = service.clone();
    Ok((provider, service))
}
