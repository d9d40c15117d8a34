using System.Threading;
using System.Threading.Tasks;
using VMatrix.Drivers;

namespace VMatrix.Doubles;

/// <summary>Asks the world whether a guest would answer, in place of a request.</summary>
public sealed class DoubleHealthProbe(DoubleWorld world) : IHealthProbe
{
    /// <inheritdoc/>
    public Task<string?> CheckAsync(ServiceSpec service, string address, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(world.Answers(address));
    }
}
