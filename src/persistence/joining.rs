//! The data folder of a node that joins a cluster: the cluster's identity and secrets, sealed under the master key that
//! all its nodes are given, and nothing else yet.

use crate::persistence::folder::{Folder, FolderFiles, OpenError, OpenOptions, lock, make, refuse_strangers};
use crate::persistence::header::Header;
use crate::types::ids::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// What a member hands to a node that joins. The files are sealed under the master key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub cluster: [u8; 16],
    /// Number of the new node.
    pub node: NodeId,
    pub shards: u16,
    /// The sealed cluster secret.
    pub secret: Vec<u8>,
    /// The sealed period keys.
    pub periods: Vec<u8>,
}

impl Folder {
    /// The identity that this folder's cluster gives to a new node.
    ///
    /// # Errors
    /// [`OpenError::Io`] when the sealed files cannot be read; [`OpenError::Secret`] when one is missing.
    pub fn identity_for(&self, node: NodeId) -> Result<Identity, OpenError> {
        let FolderFiles { secret, periods } = FolderFiles::read(&self.dir)?;
        let (Some(secret), Some(periods)) = (secret, periods) else { return Err(OpenError::Secret) };
        Ok(Identity { cluster: self.cluster, node, shards: self.shards, secret, periods })
    }
}

/// Makes the folder of a node that joins. It is opened as any other afterwards.
///
/// # Errors
/// [`OpenError::Foreign`] when something lies there already; [`OpenError::Secret`] under another master key.
pub fn join(dir: &Path, options: &OpenOptions, identity: Identity) -> Result<(), OpenError> {
    fs::create_dir_all(dir)?;
    refuse_strangers(dir)?;
    let _lock = lock(dir)?;
    let mut header = Header {
        cluster: identity.cluster,
        folder: [0; 16],
        node: identity.node,
        incarnation: Incarnation(0),
        shards: identity.shards,
    };
    (options.random)(&mut header.folder);
    let files = FolderFiles { secret: Some(identity.secret), periods: Some(identity.periods) };
    make(dir, options, &header, &files)?;
    FolderFiles::whole(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::{EntityKey, EntityKind};

    fn options(master: u8) -> OpenOptions {
        OpenOptions {
            shards: 4,
            create: true,
            ballast_bytes: 0,
            master_key: Some([master; 32]),
            ..OpenOptions::default()
        }
    }

    #[test]
    fn a_joined_folder_shares_the_clusters_secrets_and_has_its_own_number() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let founder = Folder::open(first.path(), options(7)).unwrap();
        let identity = founder.identity_for(NodeId(2)).unwrap();
        join(second.path(), &options(7), identity.clone()).unwrap();
        let joined = Folder::open(second.path(), OpenOptions { create: false, ..options(7) }).unwrap();
        assert_eq!((joined.cluster, joined.node, joined.shards), (founder.cluster, NodeId(2), 4));
        assert_eq!(joined.cluster_secret, founder.cluster_secret);
        assert_eq!(joined.incarnation, Incarnation(1));
        let entity = EntityKey { kind: EntityKind(1), id: [1; 16] };
        let (sealed, key) = founder.vault.seal_new(entity, b"name");
        joined.keys.apply(&[crate::persistence::key_store::KeyChange::Put(entity, key)]).unwrap();
        assert_eq!(joined.vault.open(entity, &sealed).unwrap().unwrap(), b"name");
        assert!(matches!(join(second.path(), &options(7), identity), Err(OpenError::Foreign { .. })));
    }

    #[test]
    fn another_master_key_is_refused_before_anything_is_joined() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let founder = Folder::open(first.path(), options(7)).unwrap();
        let identity = founder.identity_for(NodeId(2)).unwrap();
        assert!(matches!(join(second.path(), &options(8), identity), Err(OpenError::Secret)));
    }
}
