using System;
using System.Threading;

namespace VMatrix.Drivers;

/// <summary>A call that was ended, of an operation that its platform does not end with it. Its message says who goes on with it and where to look.</summary>
/// <param name="message">One sentence.</param>
/// <param name="cause">How the call ended.</param>
/// <param name="token">What ended it.</param>
public sealed class GoesOnException(string message, Exception cause, CancellationToken token) : OperationCanceledException(message, cause, token);
