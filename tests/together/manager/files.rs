//! A real `FileStore`: files that are torn, foreign, of a later release or empty, a folder that cannot be
//! written, and a program that is killed while it writes.

use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use azure_dps_device::Https;
use azure_dps_device::manager::{FileStore, Happening, Store};
use azure_dps_tests::managed::{Running, happenings, registrations};
use azure_dps_tests::plant::key;
use azure_dps_tests::{CLOSED_PORT, endpoint_of};

use super::Scene;

#[tokio::test]
async fn a_record_that_cannot_be_used_is_reported_and_put_aside_and_the_device_is_provisioned_as_a_new_one() {
    let mut scene = Scene::start().await;
    let running = scene.online().await;
    running.stop().await;
    let file = scene.folder.record();
    let good = std::fs::read(&file).unwrap();
    let foreign = record_of_another_device(&mut scene, &file).await;
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("torn", good[..good.len() / 2].to_vec(), "damaged"),
        ("foreign", foreign, "belongs to another device"),
        ("newer", b"azure-dps-device-manager 9 0\n{}".to_vec(), "version 9"),
        ("not text", vec![0xff; 1000], "damaged"),
        ("empty", Vec::new(), "damaged: it is empty"),
    ];
    for (what, content, reason) in cases {
        std::fs::write(&file, &content).unwrap();
        let before = registrations(&scene.plant.emulator);
        let mut running = scene.boot();
        let started = running.next(Happening::Started).await;
        let error = started.error.unwrap().to_string();
        assert!(error.contains(reason), "{error:?}");
        running.online().await;
        running.stop().await;
        assert_eq!(registrations(&scene.plant.emulator) - before, 1, "{what}");
        let aside = scene.folder.files("-unusable.record").remove(0);
        assert_eq!(std::fs::read(aside).unwrap(), content, "{what}");
        let running = scene.online().await;
        assert_eq!(registrations(&scene.plant.emulator) - before, 1, "{what}: the new record is good");
        running.stop().await;
    }
}

/// What another device would have stored there.
async fn record_of_another_device(scene: &mut Scene, file: &Path) -> Vec<u8> {
    let (primary, _) = scene.plant.enroll("dev2").await;
    let own = std::mem::replace(&mut scene.credential, key("dev2", &primary));
    let running = scene.online().await;
    running.stop().await;
    scene.credential = own;
    let other = scene.folder.files(".record").into_iter().find(|path| path != file).unwrap();
    let record = std::fs::read(&other).unwrap();
    std::fs::remove_file(other).unwrap();
    record
}

#[tokio::test]
async fn a_device_whose_files_cannot_be_written_works_and_reports_it() {
    let scene = Scene::start().await;
    let no_folder = scene.folder.path().join("file");
    std::fs::write(&no_folder, "").unwrap();
    for _ in 0..2 {
        let mut running = Running::start(scene.options_in(FileStore::new(no_folder.join("deep"))));
        let seen = running.online().await;
        let failed = seen.iter().find(|event| event.happening == Happening::StoreFailed).unwrap();
        let error = failed.error.as_ref().unwrap();
        assert!(error.to_string().contains("cannot be saved"), "{error}");
        // Again and again, on the slow ladder.
        running.next(Happening::StoreFailed).await;
        running.stop().await;
    }
    assert_eq!(registrations(&scene.plant.emulator), 2);
}

#[tokio::test]
async fn only_the_user_can_read_the_files_of_a_device() {
    let scene = Scene::start().await;
    let options = scene.options().with_certificates(scene.folder.store());
    let mut running = Running::start(options);
    running.online().await;
    running.stop().await;
    for file in scene.folder.files("") {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

const FOLDER: &str = "DPS_TEST_FOLDER";

/// The program that the next test kills: it writes two records in turn, and prints a line for each.
#[tokio::test]
#[ignore = "a part of the next test"]
async fn a_program_that_writes_until_it_is_killed() {
    let folder = std::env::var(FOLDER).unwrap();
    let [first, second] =
        ["first", "second"].map(|name| std::fs::read(Path::new(&folder).join(name)).unwrap());
    let name = std::fs::read_to_string(Path::new(&folder).join("name")).unwrap();
    let store = FileStore::new(&folder);
    loop {
        for record in [&first, &second] {
            Store::save(&store, &name, record.clone()).await.unwrap();
            writeln!(std::io::stderr(), "written").unwrap();
        }
    }
}

#[tokio::test]
async fn a_program_that_is_killed_while_it_writes_leaves_one_of_the_two_records() {
    let scene = Scene::start().await;
    let mut running = scene.online().await;
    let [_, there] = scene.hubs(&running);
    let file = scene.folder.record();
    let first = std::fs::read(&file).unwrap();
    scene.move_to(&there).await;
    running.manager.reprovision();
    running.next(Happening::Assigned).await;
    running.online().await;
    running.stop().await;
    let second = std::fs::read(&file).unwrap();
    assert_ne!(first, second);
    let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
    let name = stem.strip_prefix("dps-").unwrap();
    for (file, content) in [("first", &first[..]), ("second", &second[..]), ("name", name.as_bytes())] {
        std::fs::write(scene.folder.path().join(file), content).unwrap();
    }
    let before = registrations(&scene.plant.emulator);
    let away = Https::new(endpoint_of(&scene.plant.emulator).with_port(CLOSED_PORT));
    // On a fast disk some writes end before the signal comes.
    let mut unfinished = 0;
    for round in 1.. {
        assert!(round < 1000, "no program was killed while it wrote");
        kill_while_it_writes(scene.folder.path());
        let left = std::fs::read(&file).unwrap();
        assert!(left == first || left == second, "{round}: {} bytes", left.len());
        if !scene.folder.files(".new").is_empty() {
            unfinished += 1;
            let mut running = Running::start(scene.options_over(Arc::new(away.clone())));
            let seen = running.until(Happening::Connecting).await;
            assert_eq!(happenings(&seen), [Happening::Started, Happening::Connecting]);
            assert!(seen[0].error.is_none());
            running.stop().await;
            assert_eq!(scene.folder.files(".new"), [] as [std::path::PathBuf; 0], "unfinished files");
        }
        if unfinished == 3 {
            break;
        }
    }
    assert_eq!(registrations(&scene.plant.emulator), before);
}

/// Runs the program that writes, and kills it when it has written something and has begun to write again.
fn kill_while_it_writes(folder: &Path) {
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("manager::files::a_program_that_writes_until_it_is_killed")
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(program.stderr.take().unwrap());
    let mut lines = output.lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "written"), "the program writes");
    // The program must not wait for a reader of its lines.
    let reader = std::thread::spawn(move || lines.count());
    let is_new = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().ends_with(".new");
    while !std::fs::read_dir(folder).unwrap().flatten().any(is_new) {
        assert_eq!(program.try_wait().unwrap(), None, "the program writes until it is killed");
        std::thread::yield_now();
    }
    program.kill().unwrap();
    program.wait().unwrap();
    reader.join().unwrap();
}
