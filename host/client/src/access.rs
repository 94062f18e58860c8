//! Tenants, tokens and certificates: who may use the manager, and how far.

use crate::client::Client;
use crate::error::ClientError;
use doorbell_api::access::{Granted, NewPrincipal, NewTenant, Principal, Tenant};
use reqwest::Method;

impl Client {
    /// The tenants that we may see.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn tenants(&self) -> Result<Vec<Tenant>, ClientError> {
        self.get(&["tenants"]).await
    }

    /// Adds a tenant.
    ///
    /// # Errors
    /// Any [`ClientError`]; a name that is or was one's is refused as a conflict.
    pub async fn add_tenant(&self, new: &NewTenant) -> Result<Tenant, ClientError> {
        self.json(self.call(Method::POST, &["tenants"])?.json(new)).await
    }

    /// Removes a tenant.
    ///
    /// # Errors
    /// Any [`ClientError`]; one that owns something is a conflict.
    pub async fn remove_tenant(&self, name: &str) -> Result<(), ClientError> {
        self.send(self.call(Method::DELETE, &["tenants", name])?).await.map(drop)
    }

    /// Everybody who is known by a token or a certificate, as far as we may see them.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn principals(&self) -> Result<Vec<Principal>, ClientError> {
        self.get(&["principals"]).await
    }

    /// Adds a principal. Its token is in the answer, and can be had this once only.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn add_principal(&self, new: &NewPrincipal) -> Result<Granted, ClientError> {
        self.json(self.call(Method::POST, &["principals"])?.json(new)).await
    }

    /// Revokes a principal, by its public id.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn revoke(&self, id: &str) -> Result<Principal, ClientError> {
        self.json(self.call(Method::DELETE, &["principals", id])?).await
    }
}
