//! `bojagi chaos merge`, and what `--resume` goes on with: recorded rounds of one build, summed or continued.

use crate::chaos::ChaosError;
use crate::chaos::args::MergeArgs;
use crate::chaos::build::Build;
use crate::chaos::report::{ChaosReport, Round, Run, read, write};
use std::path::{Path, PathBuf};

/// Sums recorded reports and writes the sum. The caller ends with a failure unless it [`ChaosReport::passed`].
///
/// # Errors
/// [`ChaosError::Io`] and [`ChaosError::Report`]: a report cannot be read or written. [`ChaosError::Recorded`]: the reports
/// are of different builds, or name one run twice.
pub fn merge(args: &MergeArgs) -> Result<(ChaosReport, PathBuf), ChaosError> {
    let mut sum: Option<ChaosReport> = None;
    for path in &args.reports {
        let next = read(path)?;
        match &mut sum {
            None => sum = Some(next),
            Some(sum) => add(sum, next, path)?,
        }
    }
    let sum = sum.ok_or_else(|| ChaosError::Recorded("there is nothing to sum".to_owned()))?;
    let page = write(&args.out, &sum)?;
    Ok((sum, page))
}

fn add(sum: &mut ChaosReport, next: ChaosReport, path: &Path) -> Result<(), ChaosError> {
    let refused = |why: String| Err(ChaosError::Recorded(format!("{}: {why}", path.display())));
    if !sum.build.is_same(&next.build) {
        return refused(format!("made by {}, the ones before by {}: builds are not summed", next.build, sum.build));
    }
    if let Some(twice) = next.runs.iter().find(|run| sum.runs.iter().any(|known| known.id == run.id)) {
        return refused(format!("the run {} that began at {} is in the sum already", twice.id, twice.began_at));
    }
    let calm = sum.rounds.iter().chain(&next.rounds).filter(|round| round.is_calm()).count();
    if calm > 0 && calm < sum.rounds.len() + next.rounds.len() {
        return refused("a run without faults proves nothing of them, and is not summed with others".to_owned());
    }
    let before = sum.runs.len();
    sum.runs.extend(next.runs);
    sum.rounds.extend(next.rounds.into_iter().map(|mut round| {
        round.run += before;
        round
    }));
    sum.broken_off.extend(next.broken_off.into_iter().map(|mut round| {
        round.run += before;
        round
    }));
    Ok(())
}

/// What was recorded, up to the last look at the books, with the run that goes on; and the number of its next round. What failed stays
/// on the record, whether the books were looked at or not.
///
/// # Errors
/// As [`merge`]; [`ChaosError::Recorded`] also when another build, or a run with other options, is to be continued.
pub fn resume(path: &Path, build: &Build, run: Run) -> Result<(ChaosReport, u32), ChaosError> {
    let refused = |why: String| Err(ChaosError::Recorded(format!("{}: {why}", path.display())));
    let mut report = match read(path) {
        Err(ChaosError::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {
            return refused("nothing is recorded there: begin it without --resume".to_owned());
        }
        read => read?,
    };
    if !report.build.is_same(build) {
        return refused(format!("made by {}, this is {build}: a fix begins a new campaign", report.build));
    }
    if report.runs.iter().any(|before| !before.is_like(&run)) {
        return refused("it was run with another nemesis, profile, size, pace or seed".to_owned());
    }
    let booked: Vec<u32> = report.runs.iter().map(Run::booked).collect();
    let failed = |round: &Round| !round.failings().is_empty();
    report.rounds.retain(|round| failed(round) || booked.get(round.run).is_some_and(|last| round.number <= *last));
    let next = booked.into_iter().max().unwrap_or(0) + 1;
    report.runs.push(run);
    Ok((report, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::report::{BrokenOff, sample};

    fn in_folder(test: impl FnOnce(&Path)) {
        let folder = tempfile::tempdir().unwrap();
        test(folder.path());
    }

    fn args(folder: &Path, reports: &[&str]) -> MergeArgs {
        MergeArgs { reports: reports.iter().map(|name| folder.join(name)).collect(), out: folder.join("sum") }
    }

    #[test]
    fn runs_of_one_build_are_summed_and_may_be_summed_again() {
        in_folder(|folder| {
            for name in ["a", "b", "c"] {
                write(&folder.join(name), &sample::report(name, 2)).unwrap();
            }
            let (sum, page) = merge(&args(folder, &["a", "b/report.json"])).unwrap();
            assert_eq!((sum.runs.len(), sum.rounds.len(), sum.rounds[3].run), (2, 4, 1));
            assert!(page.is_file() && sum.passed(), "{:?}", sum.failings());
            let (more, _) = merge(&args(folder, &["sum", "c"])).unwrap();
            assert_eq!((more.runs.len(), more.rounds.len(), more.rounds[5].run), (3, 6, 2));
        });
    }

    #[test]
    fn another_build_and_a_run_that_is_there_already_are_refused() {
        in_folder(|folder| {
            let mut other = sample::report("b", 1);
            other.build.commit = Some("other".to_owned());
            write(&folder.join("a"), &sample::report("a", 1)).unwrap();
            write(&folder.join("b"), &other).unwrap();
            let refused = |reports: &[&str]| merge(&args(folder, reports)).unwrap_err().to_string();
            assert!(refused(&["a", "b"]).contains("builds are not summed"));
            assert!(refused(&["a", "a"]).contains("in the sum already"));
            assert!(!folder.join("sum").exists());
        });
    }

    #[test]
    fn what_was_broken_off_stays_in_the_sum_and_what_was_calm_is_not_summed() {
        in_folder(|folder| {
            let mut broken_off = sample::report("b", 1);
            broken_off.broken_off.push(BrokenOff { run: 0, number: 2, why: "w".to_owned() });
            let mut calm = sample::report("c", 1);
            calm.rounds[0].nemesis = "none".to_owned();
            for (name, report) in [("a", sample::report("a", 1)), ("b", broken_off), ("c", calm)] {
                write(&folder.join(name), &report).unwrap();
            }
            let (sum, _) = merge(&args(folder, &["a", "b"])).unwrap();
            assert_eq!((sum.broken_off[0].run, sum.passed()), (1, false));
            assert!(merge(&args(folder, &["a", "c"])).unwrap_err().to_string().contains("without faults"));
        });
    }

    #[test]
    fn a_report_of_another_schema_is_refused() {
        in_folder(|folder| {
            std::fs::write(folder.join("a"), r#"{"schema":99}"#).unwrap();
            assert!(read(&folder.join("a")).unwrap_err().to_string().contains("schema 99"));
            std::fs::write(folder.join("b"), "{}").unwrap();
            assert!(matches!(read(&folder.join("b")), Err(ChaosError::Report { .. })));
        });
    }

    #[test]
    fn a_campaign_goes_on_after_the_last_look_at_the_books() {
        in_folder(|folder| {
            let mut broken_off = sample::report("a", 3);
            broken_off.runs[0].books[0].after_round = 2;
            write(folder, &broken_off).unwrap();
            let run = || Run { id: "next".to_owned(), books: Vec::new(), ..sample::run("a") };
            let (report, next) = resume(folder, &broken_off.build, run()).unwrap();
            assert_eq!((report.rounds.len(), report.runs.len(), next), (2, 2, 3));
            let other = Run { seed: 99, ..run() };
            assert!(resume(folder, &broken_off.build, other).unwrap_err().to_string().contains("another nemesis"));
            let gone = resume(&folder.join("none"), &broken_off.build, run()).unwrap_err();
            assert!(gone.to_string().contains("without --resume"), "{gone}");
            let paced = Run { every_s: 9, ..run() };
            assert!(resume(folder, &broken_off.build, paced).is_err());
            let build = Build { commit: Some("fixed".to_owned()), ..broken_off.build.clone() };
            assert!(resume(folder, &build, run()).unwrap_err().to_string().contains("a fix begins a new campaign"));
        });
    }
}
