//! Calls that are stopped, ended or killed: what was reached is kept, and a run goes on from it. Cases X03, X06, C13.

mod common;

use common::program::{bytes, error, here, json, nada, run, temporary, PACK};
use nada::adapt::Domain;
use nada::checkpoint;
use nada::pack::ModelPack;
use nada::picture::Picture;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

const ENDLESS: &str = "100000000";

/// A call that tells each step.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStderr>>,
    said: Vec<String>,
}

impl Drop for Running {
    /// Where a test fails while it runs.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn new(mut command: Command) -> Self {
        let mut child = command.env("NADA_LOG", "debug").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, said: vec![] }
    }

    /// Waits until a line of the standard error holds `words`.
    fn until(&mut self, words: &str) {
        while let Some(Ok(line)) = self.lines.next() {
            self.said.push(line);
            if self.said.last().is_some_and(|line| line.contains(words)) {
                return;
            }
        }
        panic!("'{words}' was never said: {:?}", self.said);
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that is not yet waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// The exit status, and what was said from the beginning.
    fn end(mut self) -> (Option<i32>, String) {
        self.said.extend(self.lines.by_ref().map_while(Result::ok));
        (self.child.wait().unwrap().code(), self.said.join("\n"))
    }
}

fn adapt(folder: &Path, arguments: &[&str]) -> Command {
    let mut c = nada(folder);
    c.args(["adapt", "a zombie", "--no-stop", "--batch", "2", "--model", PACK]).args(arguments);
    c
}

/// Ignores `signal` in the program from its start, as nohup does, and shells for jobs in the background.
fn ignoring(mut command: Command, signal: i32) -> Command {
    // SAFETY: signal(2) may be called between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::signal(signal, libc::SIG_IGN);
            Ok(())
        })
    };
    command
}

/// X03. A signal that is ignored when the program starts stays ignored; another is not.
#[test]
fn nohup_holds() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        let folder = here();
        let arguments = ["--steps", "60", "-o", "x.nada.safetensors"];
        let mut running = Running::new(ignoring(adapt(folder.path(), &arguments), signal));
        running.until("step 2 of 60");
        running.signal(signal);
        let (code, said) = running.end();
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(Domain::open(&folder.path().join("x.nada.safetensors")).unwrap().description.step, 60);
    }
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        let folder = here();
        let mut running = Running::new(adapt(folder.path(), &["--steps", ENDLESS, "-o", "x.nada.safetensors"]));
        running.until("step 2 of");
        running.signal(signal);
        let (code, said) = running.end();
        assert!(code == Some(130) && said.contains("what was reached is kept in x.nada.safetensors"), "{said}");
        assert!(Domain::open(&folder.path().join("x.nada.safetensors")).unwrap().description.step >= 2);
    }
}

/// X06. Restyling and inverting keep what was reached, under names that are not those of finished work.
#[test]
fn every_long_command_keeps_what_it_reached() {
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    let only = |start: &str| {
        let names = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let found: Vec<String> = names.filter(|n| n.starts_with(start)).collect();
        assert_eq!(found.len(), 1, "{start}: {found:?}");
        found[0].clone()
    };
    std::fs::copy(common::data("face.png"), at("face.png")).unwrap();
    let slow = common::program::pack_with_recipe(&at("slow"), &format!("steps = {ENDLESS}\nbatch = 2"));
    let slow = slow.to_str().unwrap();

    // While the domain is learned.
    let mut command = nada(folder.path());
    command.args(["restyle", "face.png", "--to", "a golden statue", "--model", slow]);
    let mut running = Running::new(command);
    running.until("step 2 of");
    running.signal(libc::SIGINT);
    let (code, said) = running.end();
    let kept = only("a-golden-statue");
    assert!(code == Some(130) && said.contains(&kept) && kept == "a-golden-statue-stopped.nada.safetensors", "{said}");
    assert!(Domain::open(&at(&kept)).unwrap().description.step >= 2);

    // While the picture is searched: the domain is complete then.
    let quick = common::program::pack_with_recipe(&at("quick"), "steps = 2\nbatch = 2");
    let mut command = nada(folder.path());
    command.args(["restyle", "face.png", "--to", "a mask", "--invert-steps", ENDLESS, "--model", quick.to_str().unwrap()]);
    let mut running = Running::new(command);
    running.until(&format!("step 2 of {ENDLESS}"));
    running.signal(libc::SIGTERM);
    let (code, said) = running.end();
    assert!(code == Some(130) && Domain::open(&at("a-mask.nada.safetensors")).unwrap().description.step == 2, "{said}");
    let kept = only("face-stopped");
    assert!(said.contains(&kept), "{said}");
    let drawn = json(folder.path(), &["restyle", "face.png", "--latent", &kept, "--to", "a mask", "--model", PACK]);
    assert_eq!(drawn["output"], "face-a-mask.png");

    let mut command = nada(folder.path());
    command.args(["invert", "face.png", "face.png", "--invert-steps", ENDLESS, "-o", "l.safetensors", "--model", PACK]);
    assert_eq!(command.output().unwrap().status.code(), Some(1), "one name for two pictures");
    let mut command = nada(folder.path());
    command.args(["invert", "face.png", "--invert-steps", ENDLESS, "-o", "l.safetensors", "--model", PACK]);
    let mut running = Running::new(command);
    running.until("step 2 of");
    running.signal(libc::SIGHUP);
    let (code, said) = running.end();
    assert!(code == Some(130) && said.contains("kept in l.safetensors"), "{said}");
    assert_eq!(checkpoint::open(&at("l.safetensors")).unwrap().shape("w_plus").unwrap()[0], 1);

    // Pictures are there as they are drawn.
    let mut command = nada(folder.path());
    command.args(["sample", "-n", "4096", "--folder", "drawn", "-o", "drawn.png", "--latents", "w.npy", "--model", PACK]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&at("drawn/0003.png"), &mut child);
    // SAFETY: a signal to a child that is not yet waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let out = child.wait_with_output().unwrap();
    let drawn = std::fs::read_dir(at("drawn")).unwrap().count();
    assert!(out.status.code() == Some(130) && error(&out).contains(&format!("stopped after {drawn} of 4096")), "{}", error(&out));
    assert!((3..4096).contains(&drawn) && Picture::open(&at("drawn.png")).is_ok());
    assert_eq!(Picture::open(&at(&format!("drawn/{drawn:04}.png"))).unwrap().width, 32);
}

fn wait_for(file: &Path, child: &mut Child) {
    let begin = Instant::now();
    while !file.exists() {
        assert!(child.try_wait().unwrap().is_none() && begin.elapsed() < Duration::from_secs(60), "{} never came", file.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// C13. Every snapshot is on the disk when it is taken, whatever ends the run; and the run goes on from it with the same bits.
#[test]
fn a_killed_run_goes_on_from_its_last_snapshot() {
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    let settings = ["--steps", "8", "--seed", "5", "--mixing", "0.5", "--noise", "true", "--decay", "true", "--snapshot-every", "2"];
    let out = adapt(folder.path(), &[&settings[..], &["-o", "whole.nada.safetensors"]].concat()).output().unwrap();
    assert!(out.status.success(), "{}", error(&out));

    std::fs::create_dir(at("out")).unwrap();
    let mut running =
        Running::new(adapt(folder.path(), &[&settings[..], &["--snapshots", "s2", "-o", "out/k2.nada.safetensors"]].concat()));
    running.until("step 4 of 8");
    running.signal(libc::SIGKILL);
    let (code, _) = running.end();
    assert_eq!(code, None);
    let snapshot = at("s2/step-0004.nada.safetensors");
    assert_eq!(Domain::open(&snapshot).unwrap().description.step, 4);
    assert!(Picture::open(&at("s2/step-0004.png")).is_ok() && at("s2/step-0004.state.safetensors").exists());

    // Nothing else is said: model, words and names are those of the run.
    let value = json(folder.path(), &["adapt", "--resume", "s2/step-0004.nada.safetensors"]);
    assert_eq!(value["domain"].as_str(), at("out/k2.nada.safetensors").to_str());
    assert!(
        bytes(&at("out/k2.nada.safetensors")) == bytes(&at("whole.nada.safetensors")),
        "another domain than that of an uninterrupted run"
    );
    assert!(at("s2/step-0008.nada.safetensors").exists());
    // Again, from an earlier one, and from the middle of the folder, whose later snapshots are of the same run.
    for from in ["s2/step-0002.nada.safetensors", "s2/step-0006.state.safetensors", "s2/step-0008.png"] {
        let value = json(folder.path(), &["adapt", "--resume", from, "-o", "again.nada.safetensors", "--sheet", "again.png", "--force"]);
        assert!(bytes(&at("again.nada.safetensors")) == bytes(&at("whole.nada.safetensors")), "{from}: {value}");
    }

    let out = run(folder.path(), &["adapt", "--resume", "s2/step-0004.nada.safetensors", "-o", "whole.nada.safetensors"]);
    assert!(out.status.code() == Some(1) && error(&out).contains("is there already"), "{}", error(&out));

    // What does not fit is refused before anything is done.
    std::fs::copy(at("whole.nada.safetensors"), at("s2/step-0009.nada.safetensors")).unwrap();
    std::fs::copy(at("whole.nada.safetensors"), at("s2/step-0007.nada.safetensors")).unwrap();
    for (arguments, words) in [
        (&["adapt", "--resume", "s2/step-0004.nada.safetensors", "--template", "{}"][..], "cannot be used with"),
        (&["adapt", "--resume", "s2/step-0004.nada.safetensors", "-o", "n.nada.safetensors"], "step-0007"),
        (&["adapt", "--resume", "s2/step-0008.nada.safetensors", "--steps", "20", "--force"], "settings"),
        (&["adapt", "--resume", "whole.nada.safetensors"], "--snapshots"),
        (&["adapt", "--resume", "s2/step-0009.nada.safetensors"], "step-0009.state.safetensors"),
        (&["adapt", "--resume", "s2/step-0099.nada.safetensors"], "step-0099.state.safetensors"),
        (&["adapt", "a zombie", "--snapshots", "s2"], "is there already"),
        // Behind the last step nothing is written.
        (&["adapt", "--resume", "s2/step-0008.nada.safetensors", "--model", "starter", "-o", "n.nada.safetensors"], "another generator"),
    ] {
        let out = run(folder.path(), arguments);
        assert!(!out.status.success() && error(&out).contains(words), "{arguments:?}: {}", error(&out));
    }
}

/// C13. Two signals, while a long step is under way, leave what was taken and end at once; one keeps the last step too, to go on from.
#[test]
fn signals_leave_the_snapshots() {
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    // Steps of a second or more, by the starter's larger networks.
    let mut long = nada(folder.path());
    long.args(["adapt", "a zombie", "--no-stop", "--steps", ENDLESS, "--batch", "128", "--snapshot-every", "1", "--snapshots", "s"]);
    long.args(["--model", "starter", "-o", "k.nada.safetensors"]);
    let mut running = Running::new(long);
    running.until("step 1 of");
    running.signal(libc::SIGINT);
    // Far from what counts as the same request, and well within a step.
    std::thread::sleep(Duration::from_millis(200));
    let second = Instant::now();
    running.signal(libc::SIGINT);
    let (code, said) = running.end();
    assert!(code == Some(130) && second.elapsed() < Duration::from_secs(5), "{said}");
    assert_eq!(Domain::open(&at("s/step-0001.nada.safetensors")).unwrap().description.step, 1);
    assert_eq!(temporary(folder.path()) + temporary(&at("s")), 0);

    let mut running = Running::new(adapt(folder.path(), &["--steps", "3000", "--snapshots", "t", "-o", "t.nada.safetensors"]));
    running.until("step 3 of");
    running.signal(libc::SIGINT);
    let (code, said) = running.end();
    let step = Domain::open(&at("t.nada.safetensors")).unwrap().description.step;
    let snapshot = format!("t/step-{step:04}.nada.safetensors");
    assert!(code == Some(130) && at(&snapshot).exists(), "{said}");
    // What it says to do is done: the domain that was reached makes room for the one it comes to.
    let hint = said.split("to go on: nada ").nth(1).unwrap().lines().next().unwrap().to_string();
    let mut again = nada(folder.path());
    again.args(hint.split(' '));
    let mut running = Running::new(again);
    running.until(&format!("step {} of", step + 2));
    running.signal(libc::SIGINT);
    let (code, said) = running.end();
    assert!(code == Some(130) && Domain::open(&at("t.nada.safetensors")).unwrap().description.step >= step + 2, "{said}");
}

/// Two runs do not write their snapshots into one folder, nor over what they read, nor through links.
#[test]
fn snapshots_are_of_one_run() {
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    let mut running = Running::new(adapt(folder.path(), &["--steps", ENDLESS, "--snapshots", "s", "-o", "a.nada.safetensors"]));
    running.until("step 1 of");
    let steps = ["--steps", "2", "--snapshot-every", "1"];
    let refused = |arguments: &[&str], words: &str| {
        let out = adapt(folder.path(), &[&steps[..], arguments].concat()).output().unwrap();
        assert!(out.status.code() == Some(1) && error(&out).contains(words), "{arguments:?}: {}", error(&out));
    };
    refused(&["--snapshots", "s", "--force", "-o", "b.nada.safetensors"], "another run");
    drop(running);
    std::fs::create_dir(at("l")).unwrap();
    std::fs::copy(common::data("face.png"), at("face.png")).unwrap();
    std::os::unix::fs::symlink("../face.png", at("l/step-0002.png")).unwrap();
    refused(&["--snapshots", "l", "--force", "-o", "b.nada.safetensors"], "is a link");
    assert_eq!(bytes(&at("face.png")), bytes(&common::data("face.png")));
    refused(&["--snapshots", "n", "-o", "n/step-0002.nada.safetensors"], "is kept for");
    assert!(!at("n").exists(), "a folder for nothing");
    // A result beside them is none.
    let out = adapt(folder.path(), &[&steps[..], &["--snapshots", "n", "-o", "n/x.nada.safetensors"]].concat()).output().unwrap();
    assert!(out.status.success(), "{}", error(&out));
    std::fs::copy(at("face.png"), at("n/step-0002.png")).unwrap();
    let target = ["--target-picture", "n/step-0002.png", "--snapshots", "n", "--force", "-o", "c.nada.safetensors", "--model", PACK];
    let out = run(folder.path(), &[&["adapt", "--no-stop", "--batch", "2"][..], &steps, &target].concat());
    assert!(out.status.code() == Some(1) && error(&out).contains("is kept for"), "{}", error(&out));
    assert_eq!(bytes(&at("n/step-0002.png")), bytes(&at("face.png")));
    // What a run reads to go on is not its result.
    for file in ["n/step-0001.state.safetensors", "n/step-0001.nada.safetensors"] {
        let out = run(folder.path(), &["adapt", "--resume", "n/step-0001.nada.safetensors", "-o", file, "--force"]);
        assert!(out.status.code() == Some(1) && error(&out).contains("which this call reads"), "{}", error(&out));
    }
    let about = json(folder.path(), &["info", "n/step-0001.state.safetensors"])["files"][0].clone();
    assert_eq!((&about["kind"], &about["step"], &about["target"]), (&"state of a run".into(), &1.into(), &"a zombie".into()));
}

/// A run that fails keeps what it had reached, under a name that says that it is no finished domain.
#[test]
fn a_run_that_fails_keeps_what_it_reached() {
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    let mut running = Running::new(adapt(folder.path(), &["--steps", ENDLESS, "--snapshots", "s", "--snapshot-every", "5"]));
    running.until("step 10 of");
    std::fs::remove_dir_all(at("s")).unwrap();
    let (code, said) = running.end();
    assert!(code == Some(1) && said.contains("a-zombie-stopped.nada.safetensors"), "{said}");
    assert!(Domain::open(&at("a-zombie-stopped.nada.safetensors")).unwrap().description.step >= 10);
    assert!(!at("a-zombie.nada.safetensors").exists());
}

/// Every file below `folder` that is no temporary one, with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with(".nada-") {
            continue;
        }
        match path.is_dir() {
            true => all.extend(contents(&path)),
            false => _ = all.insert(path.clone(), bytes(&path)),
        }
    }
    all
}

/// Killed at random moments: what is there opens, what was there is as it was, and the next run removes what a dead one left, only that.
/// NADA_KILLS says how often each command is killed (default 5).
#[test]
fn killed_at_any_moment() {
    let kills: u64 = std::env::var("NADA_KILLS").map_or(5, |n| n.parse().unwrap());
    let folder = here();
    let at = |name: &str| folder.path().join(name);
    std::fs::copy(common::data("face.png"), at("face.png")).unwrap();
    std::fs::write(at(".nada-mine.tmp"), b"a file of the user's").unwrap();
    let generator = format!("{PACK}/generator.safetensors");
    let clip = format!("{PACK}/clip-a");
    let mut random = nada::rng::Rng::new(std::process::id().into());
    println!("seed {}", std::process::id());
    let mut killed = 0;
    for round in 0..kills {
        let (snapshots, domain, restyled, pack) =
            (format!("s{round}"), format!("d{round}.nada.safetensors"), format!("r{round}.png"), format!("p{round}"));
        let calls: [Vec<&str>; 3] = [
            vec![
                "adapt",
                "a zombie",
                "--no-stop",
                "--batch",
                "2",
                "--steps",
                "12",
                "--snapshot-every",
                "1",
                "--snapshots",
                &snapshots,
                "-o",
                &domain,
                "--model",
                PACK,
            ],
            vec![
                "restyle",
                "face.png",
                "--to",
                "a golden statue",
                "--invert-steps",
                "20",
                "-o",
                &restyled,
                "--save-latent",
                "l.safetensors",
                "--force",
                "--model",
                PACK,
            ],
            vec!["model", "add", &pack, "--generator", &generator, "--clip", &clip, "--folder", "packs"],
        ];
        for call in calls {
            // As long as such a call takes on a slow machine; one that ended before is killed by nobody.
            let begin = Instant::now();
            let before = contents(folder.path());
            let mut child = nada(folder.path()).args(&call).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let longest = if call[0] == "model" { 0.4 } else { 1.5 };
            std::thread::sleep(Duration::from_secs_f32(longest * random.uniform()));
            let _ = child.kill();
            let out = child.wait_with_output().unwrap();
            killed += u64::from(out.status.signal() == Some(libc::SIGKILL));
            let after = contents(folder.path());
            let changed: Vec<_> = before.iter().filter(|(path, was)| after.get(*path) != Some(was)).map(|(path, _)| path).collect();
            // The latent was named, with --force.
            assert!(changed.iter().all(|path| path.ends_with("l.safetensors")), "{call:?} changed {changed:?} after {:?}", begin.elapsed());
            for path in after.keys().filter(|path| before.get(*path) != after.get(*path)) {
                let name = path.to_string_lossy();
                let opens = match () {
                    _ if name.ends_with(".nada.safetensors") => Domain::open(path).map(drop),
                    _ if name.ends_with(".png") => Picture::open(path).map(drop),
                    _ if name.ends_with("model.toml") => ModelPack::open(path.parent().unwrap()).and_then(|p| p.load_clips()).map(drop),
                    _ if name.ends_with(".safetensors") => checkpoint::open(path).map(drop),
                    _ => Ok(()),
                };
                opens.unwrap_or_else(|e| panic!("{call:?} left {name}: {e}"));
            }
            // A folder with a pack's name is a pack.
            for entry in std::fs::read_dir(at("packs")).into_iter().flatten() {
                let entry = entry.unwrap().path();
                assert!(entry.file_name().unwrap().to_string_lossy().starts_with('.') || ModelPack::open(&entry).is_ok(), "{entry:?}");
            }
        }
    }
    assert!(killed > 0, "no call was killed before its end");
    // The next runs into the same folders.
    let out = adapt(folder.path(), &["--steps", "1", "-o", "last.nada.safetensors"]).output().unwrap();
    assert!(out.status.success(), "{}", error(&out));
    assert!(run(folder.path(), &["model", "add", "last", "--generator", &generator, "--folder", "packs"]).status.success());
    assert_eq!((temporary(folder.path()), temporary(&at("packs"))), (1, 0));
    assert_eq!(bytes(&at(".nada-mine.tmp")), b"a file of the user's");
    for round in 0..kills {
        let snapshots = at(&format!("s{round}"));
        if snapshots.exists() && temporary(&snapshots) > 0 {
            let name = format!("s{round}");
            let out =
                adapt(folder.path(), &["--steps", "1", "--snapshots", &name, "-o", "x.nada.safetensors", "--force"]).output().unwrap();
            assert!(out.status.success() && temporary(&snapshots) == 0, "{}", error(&out));
        }
    }
}
