//! The file `MLmodel` of a model, and `python_env.yaml` beside it: what they say of its framework,
//! its signature and its environment.

use serde::Deserialize;
use serde_json::Value;

use crate::api::{
    condition::truncate_text,
    version::{Framework, Tensor},
};

/// The most tensors of one side.
const TENSORS_MAX: usize = 256;

/// What the file `MLmodel` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MlModel {
    /// What it was trained with.
    pub framework: Option<Framework>,
    /// What it takes.
    pub inputs: Vec<Tensor>,
    /// What it gives.
    pub outputs: Vec<Tensor>,
    /// What of its signature has no place in Open Inference Protocol's terms.
    pub left_out: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    flavors: std::collections::BTreeMap<String, Value>,
    signature: Option<Signature>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Signature {
    inputs: Option<String>,
    outputs: Option<String>,
}

/// Reads `MLmodel`; None where it is none.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<MlModel> {
    let file: File = serde_yaml::from_slice(bytes).ok()?;
    let mut model = MlModel { framework: framework(&file), ..MlModel::default() };
    let signature = file.signature.unwrap_or_default();
    model.inputs = side("input", signature.inputs.as_deref(), &mut model.left_out);
    model.outputs = side("output", signature.outputs.as_deref(), &mut model.left_out);
    Some(model)
}

/// The flavor beside python_function, and its version.
fn framework(file: &File) -> Option<Framework> {
    let flavors = file.flavors.iter().filter(|(name, _)| *name != "python_function");
    let (name, flavor) = flavors.min_by_key(|(_, flavor)| version_of(flavor).is_none())?;
    let name = match name.as_str() {
        "sklearn" => "scikit-learn",
        other => other,
    };
    Some(Framework {
        name: truncate_text(name, 63),
        version: version_of(flavor).map(|v| truncate_text(&v, 63)),
    })
}

/// `sklearn_version`, `xgb_version`, `pytorch_version`, …
fn version_of(flavor: &Value) -> Option<String> {
    let fields = flavor.as_object()?.iter().filter(|(field, _)| field.ends_with("_version"));
    fields
        .filter_map(|(_, version)| match version {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .next()
}

fn side(side: &str, json: Option<&str>, left_out: &mut Vec<String>) -> Vec<Tensor> {
    let Some(json) = json else { return Vec::new() };
    let Ok(Value::Array(all)) = serde_json::from_str(json) else {
        left_out.push(format!("the {side}s of the signature, which are no list"));
        return Vec::new();
    };
    let mut tensors = Vec::new();
    for (number, one) in all.iter().enumerate() {
        match tensor(side, number, one) {
            Some(tensor) if tensors.len() < TENSORS_MAX => tensors.push(tensor),
            Some(_) => {
                left_out.push(format!("{side}s after the first {TENSORS_MAX}"));
                break;
            }
            None => left_out.push(format!(
                "{side} {} of type {}",
                number,
                one["type"].as_str().map_or("unknown".into(), |t| truncate_text(t, 32))
            )),
        }
    }
    tensors
}

fn tensor(side: &str, number: usize, one: &Value) -> Option<Tensor> {
    let named =
        one["name"].as_str().filter(|name| !name.is_empty()).map(|name| truncate_text(name, 253));
    let name = named.unwrap_or_else(|| format!("{side}-{number}"));
    let kind = one["type"].as_str()?;
    if kind == "tensor" {
        let spec = &one["tensor-spec"];
        let shape =
            spec["shape"].as_array()?.iter().map(Value::as_i64).collect::<Option<Vec<_>>>()?;
        return (shape.len() <= 16).then_some(Tensor {
            name,
            datatype: numpy(spec["dtype"].as_str()?)?.into(),
            shape,
        });
    }
    Some(Tensor { name, datatype: column(kind)?.into(), shape: vec![-1] })
}

/// The datatype of a column. The mapping is ours: MLflow has none.
fn column(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "double" => "FP64",
        "float" => "FP32",
        "long" => "INT64",
        "integer" => "INT32",
        "boolean" => "BOOL",
        "string" | "binary" | "datetime" => "BYTES",
        _ => return None,
    })
}

/// The datatype of a numpy dtype.
fn numpy(dtype: &str) -> Option<&'static str> {
    Some(match dtype {
        "float64" => "FP64",
        "float32" => "FP32",
        "float16" => "FP16",
        "int64" => "INT64",
        "int32" => "INT32",
        "int16" => "INT16",
        "int8" => "INT8",
        "uint64" => "UINT64",
        "uint32" => "UINT32",
        "uint16" => "UINT16",
        "uint8" => "UINT8",
        "bool" => "BOOL",
        "object" | "str" | "bytes" => "BYTES",
        _ => return None,
    })
}

/// The Python that `python_env.yaml` names.
#[must_use]
pub fn python(bytes: &[u8]) -> Option<String> {
    let file: Value = serde_yaml::from_slice(bytes).ok()?;
    file["python"].as_str().map(|version| truncate_text(version, 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
flavors:
  python_function: {loader_module: mlflow.sklearn, python_version: 3.11.7}
  sklearn: {code: null, pickled_model: model.skops, sklearn_version: 1.9.1}
signature:
  inputs: '[{"type": "double", "name": "amount", "required": true}, {"type":
    "array", "items": {"type": "string"}, "name": "tags"}, {"type": "string", "name": "country"}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1, 2]}}]'
  params: null
"#;

    #[test]
    fn a_flavor_is_the_framework_and_a_signature_is_tensors() {
        let model = read(FILE.as_bytes()).unwrap();
        assert_eq!(
            model.framework,
            Some(Framework { name: "scikit-learn".into(), version: Some("1.9.1".into()) })
        );
        let shown = |tensors: &[Tensor]| {
            tensors
                .iter()
                .map(|t| format!("{}:{}{:?}", t.name, t.datatype, t.shape))
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(&model.inputs), ["amount:FP64[-1]", "country:BYTES[-1]"]);
        assert_eq!(shown(&model.outputs), ["output-0:INT64[-1, 2]"]);
        assert_eq!(model.left_out, ["input 1 of type array"]);
    }

    #[test]
    fn frameworks_are_found_by_whatever_their_version_is_called() {
        for (flavor, name, version) in [
            ("xgboost: {xgb_version: 2.1.0, model_class: x}", "xgboost", Some("2.1.0")),
            ("onnx: {onnx_version: 1.17.0}", "onnx", Some("1.17.0")),
            ("mine: {data: x}", "mine", None),
        ] {
            let file = format!("flavors:\n  python_function: {{env: {{}}}}\n  {flavor}\n");
            let framework = read(file.as_bytes()).unwrap().framework.unwrap();
            assert_eq!((framework.name.as_str(), framework.version.as_deref()), (name, version));
        }
        assert_eq!(read(b"flavors: {python_function: {env: x}}").unwrap().framework, None);
    }

    #[test]
    fn what_is_no_model_file_says_nothing() {
        assert_eq!(read(b"[1, 2"), None);
        assert_eq!(read(b"{}").unwrap(), MlModel::default());
        assert_eq!(
            python(b"python: 3.11.7\nbuild_dependencies: [pip==23]\n").as_deref(),
            Some("3.11.7")
        );
        assert_eq!(python(b"- x"), None);
    }
}
