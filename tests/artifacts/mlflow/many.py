"""Copies the one registered model of a database, with its version, under so many names: a server would take minutes."""

import sqlite3
import sys

database, count = sys.argv[1], int(sys.argv[2])
with sqlite3.connect(database, timeout=60) as db:
    for table in ("registered_models", "model_versions"):
        columns = [column[1] for column in db.execute(f"PRAGMA table_info({table})")]
        row = list(db.execute(f"SELECT * FROM {table}").fetchone())
        name = columns.index("name")
        marks = ",".join("?" * len(columns))
        for number in range(count):
            row[name] = f"model {number}"
            db.execute(f"INSERT INTO {table} VALUES ({marks})", row)
