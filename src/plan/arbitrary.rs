//! Values that tests draw at random.

use proptest::prelude::*;
use serde_json::{Value, json};

/// JSON in which strings match `words` and fields match `names`: with the names that a pod template
/// has, it gets deep.
pub fn any_json(words: &'static str, names: &'static str) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.prop_map(Value::from)
    ];
    leaf.prop_recursive(6, 64, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(names, inner, 0..5).prop_map(|m| json!(m))
        ]
    })
}
