//! Why an API server does not give what it was asked for.

use std::{
    error::Error,
    fmt::{self, Write},
};

use kube::core::Status;

/// What a request came to instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody answers, or somebody who cannot: this passes.
    Away(String),
    /// Our credentials are not enough.
    Refused(String),
    /// There is no such resource (404).
    Unserved,
    /// What we would go on from is too old (410): everything has to be listed again.
    Expired,
    /// The server does not do what it was asked for (400, 422): of streaming lists, that it has none.
    Unsupported(String),
    /// Anything else.
    Other(String),
}

impl Trouble {
    /// What an answer of the HTTP status `code` means.
    pub(super) fn of_status(status: &Status) -> Self {
        let message = match status.message.as_str() {
            "" => format!("it answers {}", status.code),
            message => message.to_owned(),
        };
        match status.code {
            400 | 422 => Self::Unsupported(message),
            401 | 403 => Self::Refused(message),
            404 => Self::Unserved,
            410 => Self::Expired,
            429 | 500.. => Self::Away(message),
            _ => Self::Other(message),
        }
    }

    pub(super) fn other(error: &(dyn Error + 'static)) -> Self {
        Self::Other(chain(error))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) | Self::Refused(why) | Self::Unsupported(why) | Self::Other(why) => {
                out.write_str(why)
            }
            Self::Unserved => out.write_str("it has no such resource"),
            Self::Expired => out.write_str("what is known is too old to go on from"),
        }
    }
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        if let kube::Error::Api(status) = &error {
            return Self::of_status(status);
        }
        if matches!(error, kube::Error::Auth(_)) {
            return Self::Refused(chain(&error));
        }
        let is_of_the_wire = matches!(
            error,
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_)
        );
        // The rest is about what the server says, or about our own request.
        if is_of_the_wire { Self::Away(chain(&error)) } else { Self::other(&error) }
    }
}

/// An error with what caused it, which `kube` leaves to whoever prints it. Causes that are said
/// already are left out.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {cause}");
        }
        source = error.source();
    }
    text
}
