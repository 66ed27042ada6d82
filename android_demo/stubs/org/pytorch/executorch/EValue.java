// Signatures that this project calls, from https://github.com/pytorch/executorch, extension/android/executorch_android, EValue
package org.pytorch.executorch;

public class EValue {
    public static EValue from(Tensor tensor) { throw new RuntimeException("Stub!"); }
    public Tensor toTensor() { throw new RuntimeException("Stub!"); }
    public String toStr() { throw new RuntimeException("Stub!"); }
}
