plugins {
    alias(libs.plugins.kotlin.jvm)
}

kotlin {
    jvmToolchain(17)
    compilerOptions {
        allWarningsAsErrors = true
    }
}

dependencies {
    testImplementation(libs.junit)
    testImplementation(libs.kotlin.test.junit)
}

tasks.test {
    val repository = rootDir.parentFile
    systemProperty("edgefiqa.schema", repository.resolve("benchmarks/latency/protocol/agent.schema.json").path)
    // Vectors made by Pillow: python check/vectors.py build/vectors
    systemProperty("edgefiqa.vectors", rootDir.resolve("build/vectors").path)
    systemProperty("edgefiqa.goldens", rootDir.resolve("app/src/main/assets/edgefiqa/goldens").path)
}
