// Signatures that this project calls, from https://ai.google.dev/edge/api/tflite/java/org/tensorflow/lite/Interpreter
package org.tensorflow.lite;

import java.io.File;

public final class Interpreter implements AutoCloseable {
    public Interpreter(File modelFile, Options options) { throw new RuntimeException("Stub!"); }
    public Tensor getInputTensor(int inputIndex) { throw new RuntimeException("Stub!"); }
    public void run(Object input, Object output) { throw new RuntimeException("Stub!"); }
    @Override public void close() { throw new RuntimeException("Stub!"); }
    public static class Options {
        public Options() { throw new RuntimeException("Stub!"); }
        public Options setNumThreads(int numThreads) { throw new RuntimeException("Stub!"); }
    }
}
