using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace VMatrix.Shells;

/// <summary>
/// A child for each credential that calls name, and one for those that name none, each started by its first call. So a secret is read by one
/// process alone, and what hangs or dies over one credential keeps no call of another from being carried out.
/// </summary>
/// <param name="open">Makes the shell of a credential; nothing is started before its first call.</param>
internal sealed class ChildByCredential(Func<ChildShell> open) : IShell
{
    private readonly ConcurrentDictionary<string, Lazy<ChildShell>> _children = new(StringComparer.OrdinalIgnoreCase);

    /// <summary>The process of each credential; the empty name is that of the account that this process runs as.</summary>
    public IReadOnlyDictionary<string, int?> Processes => _children.ToDictionary(child => child.Key, child => child.Value.Value.ProcessId);

    /// <inheritdoc/>
    public Task<IReadOnlyList<PropertyBag>> InvokeAsync(ShellCall call, CancellationToken cancellation) =>
        _children.GetOrAdd(SecretOf(call) ?? "", _ => new Lazy<ChildShell>(open)).Value.InvokeAsync(call, cancellation);

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        foreach (var child in _children.Values)
            await child.Value.DisposeAsync();
    }

    /// <summary>The credential that a call goes by: of a move, which may name two, the one that its machine's host is reached with.</summary>
    private static string? SecretOf(ShellCall call) =>
        call.Commands.SelectMany(command => command.Parameters.OrderBy(parameter => parameter.Key.StartsWith("Destination", StringComparison.OrdinalIgnoreCase)).Select(parameter => SecretOf(parameter.Value)))
            .FirstOrDefault(secret => secret is not null);

    private static string? SecretOf(object? value) => value switch
    {
        ShellSecret secret => secret.Name,
        ShellCall call => SecretOf(call),
        Array many => many.OfType<ShellCall>().Select(SecretOf).FirstOrDefault(secret => secret is not null),
        _ => null,
    };
}
