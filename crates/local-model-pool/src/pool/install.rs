//! Takes a model file into the offer: only one that lies in the models folder, is what its sender says, and is sound.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use domain::fault::{Code, Fault, Origin};
use domain::id::ModelName;
use ring::digest::{Context, SHA256};
use wire::v1;

use crate::gguf::Header;
use crate::models_dir::ModelFile;
use crate::settings::{ModelConfig, RawModel, SettingsError, TierName};

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Checks file and name, and makes the configuration of the new model: as `like`, but loaded by its first request only.
pub(super) async fn check(
    folder: &Path,
    tier: TierName,
    name: &ModelName,
    wanted: &v1::InstallModel,
    like: RawModel,
) -> Result<ModelConfig, Fault> {
    let entry =
        RawModel { name: name.to_string(), file: wanted.file.clone(), preload: false, pin: false, ..like };
    let key = |field: &str| format!("install.{field}");
    let mut config = ModelConfig::new(&entry, tier, &key).map_err(|error| invalid(&error))?;
    config.installed = true;
    let (file, folder, sha256) = (config.file.clone(), folder.to_owned(), wanted.sha256.clone());
    tokio::task::spawn_blocking(move || sound(&file, &folder, &sha256))
        .await
        .map_err(|error| Fault::internal(format!("reading the file failed: {error}")))??;
    Ok(config)
}

fn invalid(error: &SettingsError) -> Fault {
    let text = format!("{} is {}, expected {}", error.key, error.value, error.expected);
    Fault::invalid(&error.key, text)
}

fn sound(file: &ModelFile, folder: &Path, sha256: &str) -> Result<(), Fault> {
    let wrong = |text: String| {
        Fault::new(Code::InvalidArgument, Origin::Caller, false, text).in_field("install.file")
    };
    let path = file.resolve(folder).map_err(|error| wrong(format!("install.file: {error}")))?;
    Header::open(&path)
        .map_err(|error| wrong(format!("install.file: {} is no sound GGUF: {error}", path.display())))?;
    let found = digest(&path).map_err(|error| wrong(format!("install.file: {}: {error}", path.display())))?;
    if found != sha256 {
        let text = format!("install.sha256 is {sha256:?}, the file {} has {found}", path.display());
        return Err(Fault::invalid("install.sha256", text));
    }
    Ok(())
}

/// SHA-256 of a file, lower-case hexadecimal.
fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        match chunk.get(..read) {
            Some(bytes) if read > 0 => hash.update(bytes),
            _ => break,
        }
    }
    Ok(hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn folder() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let demo = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/demo.gguf");
        std::fs::copy(demo, folder.path().join("new.gguf")).unwrap();
        let sha256 = digest(&folder.path().join("new.gguf")).unwrap();
        (folder, sha256)
    }

    async fn install(folder: &Path, file: &str, sha256: &str) -> Result<ModelConfig, Fault> {
        let wanted =
            v1::InstallModel { file: file.to_owned(), sha256: sha256.to_owned(), like: String::new() };
        let like = RawModel { slots: 2, preload: true, pin: true, ..RawModel::default() };
        check(folder, TierName::LocalCpu, &ModelName::new("new").unwrap(), &wanted, like).await
    }

    #[tokio::test]
    async fn a_sound_file_becomes_a_model_like_the_other_that_waits_for_its_first_request() {
        let (folder, sha256) = folder();
        let config = install(folder.path(), "new.gguf", &sha256).await.unwrap();
        assert!(config.installed && !config.preload && !config.pinned);
        assert_eq!((config.slots, config.executor.as_str()), (2, "llama-new"));
    }

    #[tokio::test]
    async fn what_is_not_the_file_that_was_sent_or_no_model_is_refused_by_field() {
        let (folder, sha256) = folder();
        std::fs::write(folder.path().join("no.gguf"), "GGUF").unwrap();
        let cases = [
            ("../new.gguf", sha256.as_str(), "install.file"),
            ("none.gguf", sha256.as_str(), "install.file"),
            ("no.gguf", sha256.as_str(), "install.file"),
            ("new.gguf", "00", "install.sha256"),
        ];
        for (file, sha256, field) in cases {
            let fault = install(folder.path(), file, sha256).await.unwrap_err();
            assert_eq!(fault.field, field, "{fault}");
        }
    }
}
