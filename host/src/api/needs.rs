//! What each endpoint needs of its caller: one table, which the gate asks and the API's document carries.
//!
//! An endpoint without a line here is answered to nobody, and fails the test beside the table.

use axum::http::Method;
use doorbell_api::access::Role;
use serde_json::json;
use std::collections::HashMap;
use std::sync::LazyLock;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};

/// What an endpoint needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Need {
    /// The least role.
    pub(super) role: Role,
    /// Whose caller.
    pub(super) reach: Reach,
}

/// Whose things an endpoint is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    /// The caller's tenant's: what another one owns is not there.
    Own,
    /// The whole manager's: for callers of no tenant.
    All,
}

const VIEW: Need = Need { role: Role::Viewer, reach: Reach::Own };
const ACT: Need = Need { role: Role::Operator, reach: Reach::Own };
const RULE: Need = Need { role: Role::Admin, reach: Reach::Own };
const VIEW_ALL: Need = Need { role: Role::Viewer, reach: Reach::All };
const RULE_ALL: Need = Need { role: Role::Admin, reach: Reach::All };

/// By the name of the operation.
const NEEDS: &[(&str, Need)] = &[
    ("info", VIEW),
    ("list-guests", VIEW),
    // Where a guest is met is the host's, and so is the path of a socket or directory.
    ("add-guest", RULE_ALL),
    ("show-guest", VIEW),
    ("change-guest", RULE),
    ("remove-guest", RULE),
    ("list-pending-keys", VIEW),
    ("approve-key", RULE),
    ("reject-key", RULE),
    ("enrol-guest", RULE),
    ("accept-request", ACT),
    ("list-requests", VIEW),
    ("show-request", VIEW),
    ("wait-for-request", VIEW),
    ("cancel-request", ACT),
    // And the right to the action; never who asked.
    ("approve-request", ACT),
    ("refuse-request", ACT),
    ("ask", VIEW),
    ("can", VIEW),
    ("read-output", VIEW),
    ("show-input", VIEW),
    ("put-input", ACT),
    ("resize-terminal", ACT),
    ("trace-request", VIEW),
    ("show-stations", VIEW),
    ("put-program", ACT),
    ("show-upload", ACT),
    ("put-upload", ACT),
    ("finish-upload", ACT),
    ("watch", VIEW),
    ("list-audit-records", VIEW),
    ("check-audit-trail", VIEW_ALL),
    ("sign-audit-head", VIEW_ALL),
    ("sweep", RULE_ALL),
    ("take-backup", RULE_ALL),
    ("list-tenants", VIEW),
    ("add-tenant", RULE_ALL),
    ("remove-tenant", RULE_ALL),
    ("list-principals", RULE),
    ("add-principal", RULE),
    ("revoke-principal", RULE),
];

type Table = HashMap<(Method, String), Need>;

/// What an endpoint needs, by its method and its path as the router has it.
pub(super) fn of(method: &Method, path: &str) -> Option<Need> {
    static TABLE: LazyLock<Table> = LazyLock::new(|| table(&super::routes_and_document().1));
    // What answers to GET answers to HEAD.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    if (method, path) == (&Method::GET, super::DOCUMENT_PATH) {
        return Some(VIEW);
    }
    TABLE.get(&(method.clone(), path.to_owned())).copied()
}

/// The document, with what each of its operations needs.
pub(super) fn told(mut document: OpenApi) -> OpenApi {
    for item in document.paths.paths.values_mut() {
        for (_, operation) in operations_mut(item) {
            if let Some(need) = named(operation) {
                let told = json!({ "role": need.role, "reach": need.reach.word() });
                operation.extensions.get_or_insert_default().insert("x-doorbell-needs".into(), told);
            }
        }
    }
    document
}

impl Reach {
    const fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::All => "all",
        }
    }
}

fn table(document: &OpenApi) -> Table {
    let mut table = Table::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in operations_mut(&mut item.clone()) {
            if let Some(need) = named(operation) {
                table.insert((method, path.clone()), need);
            }
        }
    }
    table
}

fn named(operation: &Operation) -> Option<Need> {
    let name = operation.operation_id.as_deref()?;
    NEEDS.iter().find(|(known, _)| *known == name).map(|(_, need)| *need)
}

fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, item.get.as_mut()),
        (Method::PUT, item.put.as_mut()),
        (Method::POST, item.post.as_mut()),
        (Method::DELETE, item.delete.as_mut()),
        (Method::PATCH, item.patch.as_mut()),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.map(|operation| (method, operation)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_endpoint_has_a_decision_and_every_decision_an_endpoint() {
        let document = super::super::routes_and_document().1;
        let text: serde_json::Value = serde_json::from_str(&document.to_json().unwrap()).unwrap();
        let mut found = BTreeSet::new();
        for (path, item) in text["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                found.insert(name.to_owned());
                let need = &operation["x-doorbell-needs"];
                assert!(
                    need["role"].is_string(),
                    "{method} {path}: {name} has no line in the table of needs"
                );
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                assert!(of(&method, path).is_some(), "{method} {path} is not found in the table");
            }
        }
        let decided: BTreeSet<String> = NEEDS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(found, decided);
        assert_eq!(decided.len(), NEEDS.len(), "an operation is decided twice");
    }
}
