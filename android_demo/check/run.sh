#!/usr/bin/env bash
# Checks the Android project as far as a machine without Google's Maven can. Usage: run.sh [core|app|lint|format]...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
root=$(dirname "$project")
PYTHON=${EDGEFIQA_PYTHON:-$root/.venv/bin/python}
GOLDENS=${EDGEFIQA_GOLDENS:-}  # an export's goldens folder; one without a model is made if not given
build=$project/build/check
core=$project/scorer-core/src
# shellcheck source=tools.sh
. "$here/tools.sh"
mkdir -p "$build"

compile_core() {
    kotlinc -no-stdlib -cp "$KOTLIN_HOME/lib/kotlin-stdlib.jar" -d "$build/core.jar" "$core/main/kotlin"
    echo "ok: scorer-core compiles"
}

check_core() {
    compile_core
    kotlinc -no-stdlib -cp "$build/core.jar:$KOTLIN_LIBS:$JUNIT" -d "$build/core-test.jar" "$core/test/kotlin"
    rm -rf "$build/vectors" "$build/jobs" "$build/reports" "$build/goldens"
    mkdir -p "$build/reports"
    (
        cd "$root"
        "$PYTHON" "$here/vectors.py" "$build/vectors"
        "$PYTHON" "$here/jobs.py" "$build/jobs"
        [ -n "$GOLDENS" ] || "$PYTHON" "$here/goldens.py" "$build/goldens"
    )
    local tests
    tests=$(cd "$core/test/kotlin" && find . -name '*Test.kt' | sed 's|^\./||; s|/|.|g; s|\.kt$||' | sort)
    # shellcheck disable=SC2086
    java -Xmx1g -Djava.awt.headless=true -Dedgefiqa.vectors="$build/vectors" -Dedgefiqa.goldens="${GOLDENS:-$build/goldens}" \
        -Dedgefiqa.schema="$root/benchmarks/protocol/agent.schema.json" -Dedgefiqa.reports="$build/reports" \
        -Dedgefiqa.jobs="$build/jobs" \
        -cp "$build/core.jar:$build/core-test.jar:$KOTLIN_LIBS:$JUNIT" org.junit.runner.JUnitCore $tests \
        | grep -v '^JUnit version'
    rm -rf "$build/vectors"
    echo "ok: scorer-core's tests"
    (cd "$root" && "$PYTHON" -m pytest -q -p no:cacheprovider tests/android/test_protocol.py)
    echo "ok: the reports that Kotlin wrote, read by Python"
}

check_format() {
    (cd "$project" && ktlint --format --relative "**/*.kt" "**/*.kts" "!build/**")
}

check_lint() {
    (cd "$project" && ktlint --relative "**/*.kt" "**/*.kts" "!build/**")
    echo "ok: ktlint"
}

check_app() {
    [ -f "$build/core.jar" ] || compile_core
    "$here/app.sh"
}

for part in "${@:-core app lint}"; do
    for name in $part; do "check_$name"; done
done
