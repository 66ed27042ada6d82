// Signatures that this project calls, from https://github.com/pytorch/executorch, extension/android/executorch_android, Module
package org.pytorch.executorch;

public class Module {
    public static final int LOAD_MODE_MMAP = 1;
    public static Module load(String modelPath, int loadMode, int numThreads) { throw new RuntimeException("Stub!"); }
    public void loadMethod(String methodName) { throw new RuntimeException("Stub!"); }
    public EValue[] forward(EValue... inputs) { throw new RuntimeException("Stub!"); }
    public EValue[] execute(String methodName, EValue... inputs) { throw new RuntimeException("Stub!"); }
    public void destroy() { throw new RuntimeException("Stub!"); }
}
