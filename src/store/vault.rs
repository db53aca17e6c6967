//! Sealed secrets as rows; `secrets` seals and opens them.

use super::Error;
use super::Store;
use super::db::args;

impl Store {
    /// Keeps a sealed secret under its name.
    pub async fn put_secret(&self, name: &str, sealed: &str) -> Result<(), Error> {
        const PUT: &str = "INSERT INTO secrets (name, sealed) VALUES ($1, $2) \
                           ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed";
        self.execute(PUT, args![name, sealed]).await?;
        Ok(())
    }

    /// Returns a secret, sealed.
    pub async fn secret(&self, name: &str) -> Result<Option<String>, Error> {
        let rows = self.fetch("SELECT sealed FROM secrets WHERE name = $1", args![name]).await?;
        rows.first().map(|row| row.text(0).map(str::to_owned)).transpose()
    }

    /// Returns all secrets, sealed, by name.
    pub async fn sealed_secrets(&self) -> Result<Vec<(String, String)>, Error> {
        let rows = self.fetch("SELECT name, sealed FROM secrets", args![]).await?;
        rows.iter().map(|row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned()))).collect()
    }

    /// Tells whether there is a master key to seal with.
    #[must_use]
    pub fn can_seal(&self) -> bool {
        self.codec().sealer.is_some()
    }

    /// Seals a text with the store's sealer.
    pub fn seal(&self, open: &str) -> Result<String, Error> {
        let sealer = self.codec().sealer.as_ref().ok_or(Error::NoMasterKey)?;
        sealer.seal(open).map_err(Error::Seal)
    }

    /// Opens a text that `seal` made.
    pub fn unseal(&self, sealed: &str) -> Result<String, Error> {
        let sealer = self.codec().sealer.as_ref().ok_or(Error::NoMasterKey)?;
        sealer.unseal(sealed).map_err(Error::Seal)
    }

    /// Lists the names, sorted.
    pub async fn secret_names(&self) -> Result<Vec<String>, Error> {
        let rows = self.fetch("SELECT name FROM secrets", args![]).await?;
        let mut names = rows.iter().map(|row| row.text(0).map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
        // Here, because the databases do not agree on an order.
        names.sort();
        Ok(names)
    }

    /// Returns whether there was one.
    pub async fn delete_secret(&self, name: &str) -> Result<bool, Error> {
        Ok(self.execute("DELETE FROM secrets WHERE name = $1", args![name]).await? > 0)
    }
}
