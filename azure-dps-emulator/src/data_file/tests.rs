use std::os::unix::fs::symlink;
use std::thread;

use super::*;

#[test]
fn a_folder_that_cannot_be_synced_is_reported_with_the_new_contents_in_the_file() {
    let dir = Directory::new("unsynced").unwrap();
    let (file, _) = DataFile::open(&dir.0.join("state.json"), 1).unwrap();
    file.replace(|| Ok(text("old"))).unwrap();

    let failing = |_: &Path| Err(io::Error::from(ErrorKind::PermissionDenied));
    let error = file.replace_and(|| Ok(text("new")), failing).unwrap_err();

    assert!(matches!(error, SaveError::Unsynced { .. }), "{error}");
    assert!(!error.to_string().contains("before"), "{error}");
    assert_eq!(fs::read_to_string(dir.0.join("state.json")).unwrap(), "new");
}

#[test]
fn links_to_a_file_that_does_not_exist_stay_links() {
    let dir = Directory::new("links").unwrap();
    let (first, second) = (dir.0.join("first"), dir.0.join("second"));
    symlink("second", &first).unwrap();
    symlink(dir.0.join("state.json"), &second).unwrap();

    let (file, kept) = DataFile::open(&first, 1).unwrap();
    file.replace(|| Ok(text("new"))).unwrap();

    assert_eq!(kept, None);
    assert!(fs::read_link(&first).is_ok() && fs::read_link(&second).is_ok());
    assert_eq!(fs::read_to_string(dir.0.join("state.json")).unwrap(), "new");
}

#[test]
fn links_in_a_circle_are_an_error() {
    let dir = Directory::new("circle").unwrap();
    symlink("b", dir.0.join("a")).unwrap();
    symlink("a", dir.0.join("b")).unwrap();

    assert!(DataFile::open(&dir.0.join("a"), 1).is_err());
}

#[test]
fn a_state_is_taken_when_its_turn_to_be_saved_has_come() {
    let dir = Directory::new("turns").unwrap();
    let path = dir.0.join("state.json");
    let file = DataFile::open(&path, 1).unwrap().0;
    let (begun, second_begins) = std::sync::mpsc::channel();

    thread::scope(|scope| {
        let first = || {
            scope.spawn(|| {
                begun.send(()).unwrap();
                file.replace(|| {
                    assert_eq!(fs::read_to_string(&path).unwrap(), "first", "the first is complete");
                    Ok(text("second"))
                })
            });
            second_begins.recv().unwrap();
            Ok(text("first"))
        };
        file.replace(first).unwrap();
    });

    assert_eq!(fs::read_to_string(&path).unwrap(), "second");
}

#[test]
fn nothing_is_saved_after_the_last_state_and_another_emulator_can_use_the_file() {
    let dir = Directory::new("last").unwrap();
    let path = dir.0.join("state.json");
    let file = DataFile::open(&path, 1).unwrap().0;
    assert!(DataFile::open(&path, 1).is_err());

    file.replace_at_the_end(|| Ok(text("last"))).unwrap();

    let late = file.replace(|| Ok(text("late"))).unwrap_err();
    assert!(matches!(late, SaveError::Stopped(_)), "{late}");
    assert_eq!(DataFile::open(&path, 1).unwrap().1, Some(b"last".to_vec()));
}

#[test]
fn a_state_that_cannot_take_the_place_of_the_file_is_kept_beside_it() {
    let dir = Directory::new("kept").unwrap();
    let path = dir.0.join("state.json");
    let file = DataFile::open(&path, 1).unwrap().0;
    // No file takes the place of a folder, as none takes that of a mount.
    fs::create_dir(&path).unwrap();

    let kept = dir.0.canonicalize().unwrap().join("state.json.kept");
    for state in ["one", "two"] {
        let error = file.replace(|| Ok(text(state))).unwrap_err();

        assert!(error.to_string().ends_with(&format!("the new state is in {}", kept.display())), "{error}");
        assert_eq!(fs::read_to_string(&kept).unwrap(), state);
    }
    assert_eq!(file.left_beside(), Some(kept.clone()));
    drop(file);
    fs::remove_dir(&path).unwrap();
    let file = DataFile::open(&path, 1).unwrap().0;
    fs::create_dir(&path).unwrap();
    file.replace(|| Ok(text("three"))).unwrap_err();
    assert_eq!(fs::read_to_string(&kept).unwrap(), "two", "an earlier run left it");
    assert_eq!(fs::read_to_string(dir.0.join("state.json.kept-2")).unwrap(), "three");

    let error = file.check_replaceable(b"old".to_vec()).unwrap_err();
    assert!(error.to_string().starts_with("it cannot be replaced: "), "{error}");
    assert!(!dir.0.join("state.json.new").exists());
}

#[test]
fn only_a_regular_file_of_limited_size_is_read() {
    let dir = Directory::new("limits").unwrap();
    let path = dir.0.join("state.json");
    fs::write(&path, vec![b'x'; 1024 * 1024 + 1]).unwrap();
    let refused = |path: &Path| DataFile::open(path, 1).err().unwrap().to_string();
    assert_eq!(refused(&path), "it is larger than 1 MiB");
    fs::remove_file(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    assert_eq!(refused(&path), "it is not a regular file");
    assert!(!Path::new("/dev/zero.lock").exists());
}

fn text(text: &str) -> impl Iterator<Item = Vec<u8>> + use<> {
    [text.as_bytes().to_vec()].into_iter()
}

/// A folder that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("dps-data-file-{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}
