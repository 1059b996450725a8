//! A steady stream of predictions through the Service, each on a connection of its own, and what
//! became of each.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// What a version answers, by its name.
pub type Answers = BTreeMap<String, Vec<f64>>;

/// One prediction.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When it came.
    pub at: Instant,
    /// The version that the server says.
    pub version: String,
    /// The numbers.
    pub values: Vec<f64>,
}

/// Asks an OpenInferenceV2 server for a prediction.
pub fn predict(address: SocketAddr, model: &str, question: &[Vec<f64>]) -> Result<Answer, String> {
    let asked = Instant::now();
    let columns = question.first().map_or(0, Vec::len);
    let data: Vec<f64> = question.iter().flatten().copied().collect();
    let input =
        json!({"name": "x", "shape": [question.len(), columns], "datatype": "FP64", "data": data});
    let body = json!({"inputs": [input]}).to_string();
    let text = exchange(address, &format!("/v2/models/{model}/infer"), &body)
        .map_err(|e| format!("after {:?}: {e}", asked.elapsed()))?;
    let answer: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
    let values = answer["outputs"][0]["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .collect();
    Ok(Answer {
        at: Instant::now(),
        version: answer["model_version"].as_str().unwrap_or_default().to_owned(),
        values,
    })
}

/// One POST on a connection of its own; the body of a 200.
pub fn exchange(address: SocketAddr, path: &str, body: &str) -> Result<String, String> {
    let patience = Duration::from_secs(20);
    let mut stream =
        TcpStream::connect_timeout(&address, patience).map_err(|e| format!("connect: {e}"))?;
    stream.set_read_timeout(Some(patience)).map_err(|e| e.to_string())?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}",
        body.len()
    );
    write!(stream, "{head}\r\nConnection: close\r\n\r\n{body}")
        .map_err(|e| format!("send: {e}"))?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|e| format!("receive: {e}"))?;
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(text),
    }
}

/// What a stream saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// In the order of their asking.
    pub answers: Vec<Answer>,
    /// What failed, in the server's or the system's words.
    pub failures: Vec<String>,
}

/// A stream that goes on until it is stopped.
pub struct Stream {
    seen: Arc<Mutex<Seen>>,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// The time between two predictions.
const PACE: Duration = Duration::from_millis(100);

impl Stream {
    /// Begins to ask.
    pub fn begin(address: SocketAddr, model: &str, question: &[Vec<f64>]) -> Self {
        let (stop, stopped) = mpsc::channel();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (sink, model, question) = (seen.clone(), model.to_owned(), question.to_vec());
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(PACE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let result = predict(address, &model, &question);
                let mut seen = sink.lock().unwrap();
                match result {
                    Ok(answer) => seen.answers.push(answer),
                    Err(error) => seen.failures.push(error),
                }
            }
        });
        Self { seen, stop, thread }
    }

    /// Whether the newest answers are of that version alone: ten in a row.
    pub fn settled_on(&self, version: &str) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.answers.len() >= 10 && seen.answers.iter().rev().take(10).all(|a| a.version == version)
    }

    /// When the first answer by a version came after an instant, and the last so far.
    pub fn span(&self, version: &str, after: Instant) -> Option<(Instant, Instant)> {
        let seen = self.seen.lock().unwrap();
        let mut times =
            seen.answers.iter().filter(|a| a.version == version && a.at >= after).map(|a| a.at);
        let first = times.next()?;
        Some((first, times.next_back().unwrap_or(first)))
    }

    /// Stops it, and gives what it saw.
    pub fn end(self) -> Seen {
        let _ = self.stop.send(());
        self.thread.join().unwrap();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// What the times of records are rounded to.
const GRAIN: SignedDuration = SignedDuration::from_secs(1);

/// When that was, by the clock that records are written by.
fn clock(at: Instant) -> Timestamp {
    Timestamp::now() - SignedDuration::try_from(at.elapsed()).unwrap()
}

impl Seen {
    /// Fails unless every prediction was answered, by what the model of the version that gave it
    /// predicts.
    pub fn assert_right(&self, answers: &Answers) {
        assert!(
            self.failures.is_empty(),
            "{} of {} predictions failed: {:#?}",
            self.failures.len(),
            self.answers.len(),
            self.failures
        );
        let wrong: Vec<_> =
            self.answers.iter().filter(|a| answers.get(&a.version) != Some(&a.values)).collect();
        assert!(
            wrong.is_empty(),
            "{} of {} predictions are wrong: {:?}",
            wrong.len(),
            self.answers.len(),
            wrong.first()
        );
    }

    /// Fails unless the versions took over from each other in that order. While one does, both
    /// answer.
    pub fn assert_in_order(&self, versions: &[String]) {
        let mut left = versions.iter();
        let mut next = left.next();
        for answer in &self.answers {
            if next == Some(&answer.version) {
                next = left.next();
            }
        }
        assert_eq!(next, None, "not every version of {versions:?} answered in its turn");
        let last = self.answers.last().map(|a| &a.version);
        assert_eq!(last, versions.last(), "the last prediction is not of what serves");
    }

    /// Fails if a version answered when the records tell of others: it has to be that of the newest
    /// rollout that had begun, unless that one failed, or what was served before it.
    pub fn assert_told_by(&self, records: &[Value]) {
        let mut records: Vec<&Value> = records.iter().map(|r| &r["spec"]).collect();
        records.sort_by_key(|r| r["number"].as_i64());
        let start = |r: &Value| r["startTime"].as_str().unwrap().parse::<Timestamp>().unwrap();
        let serves = |r: &&&Value| r["outcome"] == "Promoted";
        for answer in &self.answers {
            let at = clock(answer.at);
            // The newest that had begun, and those that had perhaps.
            let (sure, perhaps) = (at - GRAIN, at + GRAIN);
            let begun = |until: Timestamp| records.iter().take_while(|r| start(r) <= until).count();
            let told = (begun(sure).max(1)..=begun(perhaps)).flat_map(|count| {
                let (newest, before) = records[..count].split_last().unwrap();
                [newest].into_iter().filter(serves).chain(before.iter().rev().find(serves))
            });
            let told: Vec<&str> = told.filter_map(|r| r["version"].as_str()).collect();
            assert!(
                told.contains(&answer.version.as_str()),
                "{answer:?} came at {at}, when {told:?} served by the records {records:#?}"
            );
        }
    }
}
