namespace VMatrix.Commands;
internal static class Sessions { internal static void Forget() { } }
