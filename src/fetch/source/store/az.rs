//! `az://` and `abfs://`: Azure Blob Storage.

use std::sync::Arc;

use object_store::azure::{AzureConfigKey as Key, MicrosoftAzureBuilder};

use super::{Store, connector, retries, unusable};
use crate::fetch::{
    credentials::Credentials,
    error::{Error, Reason},
    source::Means,
};

/// Azure Blob Storage.
///
/// # Errors
/// When no account is named, or the credentials make no sense.
pub fn az(
    account: Option<&str>,
    container: &str,
    key: &str,
    means: &Means,
) -> Result<Store, Error> {
    let given = &*means.credentials;
    let account = account_of(account, container, given)?;
    let connector = connector(means, None)?;
    let mut builder = MicrosoftAzureBuilder::new()
        .with_http_connector(connector)
        .with_retry(retries())
        .with_account(account)
        .with_container_name(container);
    if let Some(url) = given.get(&["AZURE_STORAGE_BLOB_ENDPOINT", "AZURE_STORAGE_ENDPOINT"]) {
        builder = builder.with_endpoint(url.to_owned()).with_allow_http(true);
    }
    let (builder, anonymous) = signed(builder, given);
    let store = builder.build().map_err(|_| {
        unusable(
            "Azure",
            "AZURE_STORAGE_ACCESS_KEY, AZURE_STORAGE_SAS_TOKEN and AZURE_STORAGE_BLOB_ENDPOINT",
        )
    })?;
    Ok(Store::new(Arc::new(store), format!("az://{container}"), key, anonymous, true))
}

/// The account that the address or the credentials name.
fn account_of<'a>(
    account: Option<&'a str>,
    container: &str,
    given: &'a Credentials,
) -> Result<&'a str, Error> {
    let own = given.get(&["AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"]);
    if let (Some(named), Some(own)) = (account, own)
        && named != own
    {
        // Tokens and signatures are sent as they are: only to the account that they are of.
        let sentence = format!(
            "The artifact is in Azure account {named}, and the credentials are of another one."
        );
        return Err(Error::new(Reason::Refused, sentence));
    }
    account.or(own).ok_or_else(|| {
        let how = "write abfs://container@account.dfs.core.windows.net/path, or give AZURE_STORAGE_ACCOUNT with the credentials";
        Error::new(Reason::InvalidRequest, format!("az://{container} names no account: {how}."))
    })
}

/// With the credentials that are given: a key, else a shared access signature, else an
/// application's or the pod's identity, else none; and whether there are none.
fn signed(builder: MicrosoftAzureBuilder, given: &Credentials) -> (MicrosoftAzureBuilder, bool) {
    let access =
        given.get(&["AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"]);
    let sas = given.get(&["AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"]);
    let identity = [
        (Key::ClientId, given.get(&["AZURE_CLIENT_ID"])),
        (Key::AuthorityId, given.get(&["AZURE_TENANT_ID"])),
        (Key::ClientSecret, given.get(&["AZURE_CLIENT_SECRET"])),
        (Key::FederatedTokenFile, given.environment("AZURE_FEDERATED_TOKEN_FILE")),
        (Key::AuthorityHost, given.environment("AZURE_AUTHORITY_HOST")),
    ];
    let has = |key| identity.iter().any(|(k, v)| *k == key && v.is_some());
    let client = has(Key::ClientId)
        && has(Key::AuthorityId)
        && (has(Key::ClientSecret) || has(Key::FederatedTokenFile));
    let anonymous = access.is_none() && sas.is_none() && !client;
    let builder = match (access, sas) {
        _ if anonymous => builder.with_skip_signature(true),
        (Some(key), _) => builder.with_access_key(key),
        (None, Some(sas)) => builder.with_config(Key::SasKey, sas),
        (None, None) => identity
            .into_iter()
            .filter_map(|(k, v)| Some((k, v?)))
            .fold(builder, |b, (key, value)| b.with_config(key, value)),
    };
    (builder, anonymous)
}
