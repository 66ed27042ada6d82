#!/usr/bin/env bash
# Type-checks the app's three flavours and links its manifest and resources. Called by run.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
PYTHON=${EDGEFIQA_PYTHON:-$(dirname "$project")/.venv/bin/python}
build=$project/build/check
app=$project/app/src
# shellcheck source=tools.sh
. "$here/tools.sh"

link_resources() {
    rm -rf "$build/res" "$build/gen"
    mkdir -p "$build/res" "$build/gen"
    aapt2 compile --dir "$app/main/res" -o "$build/res/compiled.zip"
    # What AGP's manifest merger does: fill in the id, drop what tools:node removes.
    "$PYTHON" "$here/merge_manifest.py" "$app/main/AndroidManifest.xml" dev.edgefiqa.demo.check >"$build/res/AndroidManifest.xml"
    aapt2 link -I "$FRAMEWORK_RES" --manifest "$build/res/AndroidManifest.xml" --java "$build/gen" \
        --custom-package dev.edgefiqa.demo --min-sdk-version 29 --target-sdk-version 36 \
        -o "$build/res/linked.apk" "$build/res/compiled.zip"
    local permissions
    permissions=$(aapt2 dump permissions "$build/res/linked.apk" | grep -c uses-permission || true)
    [ "$permissions" = 0 ] || { echo "the app asks for $permissions permissions, none is allowed" >&2; exit 1; }
    echo "ok: manifest and resources link, no permission"
}

compile_stubs() {
    rm -rf "$build/stubs"
    mkdir -p "$build/stubs" "$build/generated"
    # Android's build generates this class; the check needs its shape only.
    cat >"$build/gen/dev/edgefiqa/demo/BuildConfig.java" <<'JAVA'
package dev.edgefiqa.demo;

public final class BuildConfig {
    public static final String VERSION_NAME = "check";
    public static final String RUNTIME_VERSION = "check";
}
JAVA
    find "$project/stubs" "$build/gen" -name '*.java' | xargs javac -nowarn -Xlint:none -d "$build/stubs"
}

check_flavour() {
    local libraries=$1 flavour=$2
    kotlinc -no-stdlib -cp "$libraries:$build/core.jar:$build/stubs:$KOTLIN_HOME/lib/kotlin-stdlib.jar" \
        -d "$build/app-$flavour.jar" "$app/main/kotlin" "$app/$flavour/kotlin"
    echo "ok: app, flavour $flavour, type-checks"
}

link_resources
compile_stubs
check_flavour "$build/stubs" litert
check_flavour "$build/stubs" executorch
check_flavour "$ORT_CLASSES" onnxruntime
