//! Consumer groups' APIs.

use crate::api::Api;

pub(crate) const APIS: &[Api] = &[];
