module rollmodel.dev/tests/e2e/tools/pause

go 1.26.0
