plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "dev.edgefiqa.demo"
    compileSdk =
        libs.versions.compileSdk
            .get()
            .toInt()

    defaultConfig {
        applicationId = "dev.edgefiqa.demo"
        minSdk =
            libs.versions.minSdk
                .get()
                .toInt()
        targetSdk =
            libs.versions.targetSdk
                .get()
                .toInt()
        versionCode = 1
        versionName = "0.1.0"
        ndk {
            abiFilters += listOf("arm64-v8a", "x86_64")
        }
    }

    flavorDimensions += "runtime"
    productFlavors {
        create("litert") {
            dimension = "runtime"
            applicationIdSuffix = ".litert"
            buildConfigField("String", "RUNTIME_VERSION", "\"${libs.versions.litert.get()}\"")
        }
        create("executorch") {
            dimension = "runtime"
            applicationIdSuffix = ".executorch"
            buildConfigField("String", "RUNTIME_VERSION", "\"${libs.versions.executorch.get()}\"")
        }
        create("onnxruntime") {
            dimension = "runtime"
            applicationIdSuffix = ".onnxruntime"
            buildConfigField("String", "RUNTIME_VERSION", "\"${libs.versions.onnxruntime.get()}\"")
        }
    }

    buildTypes {
        release {
            // Benchmarks run code that is not debuggable; the key is the developer's own.
            signingConfig = signingConfigs.getByName("debug")
        }
    }

    buildFeatures {
        buildConfig = true
    }

    androidResources {
        // Compressed assets cannot be mapped, and models hardly shrink.
        noCompress += listOf("tflite", "pte", "onnx")
    }

    packaging {
        // Uncompressed libraries are aligned to 16 KB pages: see `edgefiqa android check-apk`.
        jniLibs.useLegacyPackaging = false
    }
}

kotlin {
    jvmToolchain(17)
}

dependencies {
    implementation(project(":scorer-core"))
    "litertImplementation"(libs.litert)
    "executorchImplementation"(libs.executorch)
    "onnxruntimeImplementation"(libs.onnxruntime)
}
