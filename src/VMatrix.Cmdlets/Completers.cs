using System;
using System.Collections;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Management.Automation.Language;
using System.Threading;

namespace VMatrix.Commands;

/// <summary>Completes names from what is known already: the pool's file and the servers that were listed last. Asks no host.</summary>
public abstract class NameCompleter : IArgumentCompleter
{
    /// <inheritdoc/>
    public IEnumerable<CompletionResult> CompleteArgument(string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
    {
        string word = (wordToComplete ?? "").Trim('\'', '"');
        var pattern = WildcardPattern.Get(word + "*", WildcardOptions.IgnoreCase | WildcardOptions.CultureInvariant);
        string[] names;
        try
        {
            names = FindPool(fakeBoundParameters) is { } path ? [.. Names(path)] : [];
        }
        catch (Exception error) when (error is VMatrixException or RuntimeException or IOException || Loading.ModuleFiles.Explain(error) is not null)
        {
            // A pool that cannot be read completes nothing; the command itself will say why.
            names = [];
        }

        foreach (string name in names)
        {
            if (pattern.IsMatch(name))
            {
                string text = name.IndexOfAny([' ', '\'', '(', ')', ';', ',', '{', '}', '$', '`', '"', '|', '&', '@', '#']) < 0 ? name
                    : $"'{CodeGeneration.EscapeSingleQuotedStringContent(name)}'";
                yield return new CompletionResult(text, name, CompletionResultType.ParameterValue, name);
            }
        }
    }

    private protected abstract IEnumerable<string> Names(string pool);

    /// <summary>The owner's settings, read from the file; no host is asked.</summary>
    private protected static PoolSpec? Spec(string path)
    {
        // Opening for reading looks at files only, and ends before it returns.
        var opening = Sessions.RentAsync(path, false, CancellationToken.None);
        if (!opening.IsCompleted)
            return null;
        using var lease = opening.GetAwaiter().GetResult();
        return lease.Session.Spec;
    }

    private static string? FindPool(IDictionary bound)
    {
        object? given = bound?.Contains("Pool") == true ? bound["Pool"] : Environment.GetEnvironmentVariable("VMATRIX_POOL");
        string? path = given switch
        {
            null or "" => "pool.yaml",
            string text => text,
            PoolIdentity identity => identity.Path,
            var other => PSObject.AsPSObject(other).Properties["Path"]?.Value as string,
        };
        if (path is null)
            return null;
        // Relative to the prompt, which only a script of this runspace knows while it is busy completing.
        path = ScriptBlock.Create("param($path) $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($path)")
            .Invoke(path).FirstOrDefault()?.BaseObject as string;
        return Directory.Exists(path) ? Path.Combine(path, "pool.yaml") : File.Exists(path) ? path : null;
    }
}

/// <summary>Completes the names of services.</summary>
public sealed class ServiceCompleter : NameCompleter
{
    private protected override IEnumerable<string> Names(string pool) => Spec(pool)?.Services.Select(s => s.Name) ?? [];
}

/// <summary>Completes the names of hosts.</summary>
public sealed class HostCompleter : NameCompleter
{
    private protected override IEnumerable<string> Names(string pool) => Spec(pool)?.Hosts.Select(h => h.Name) ?? [];
}

/// <summary>Completes the names of servers, from the listing that was made last.</summary>
public sealed class ServerCompleter : NameCompleter
{
    private protected override IEnumerable<string> Names(string pool) => Sessions.ServersOf(pool);
}

/// <summary>Completes the names of hosts, services, and the servers that were listed last.</summary>
public sealed class SubjectCompleter : NameCompleter
{
    private protected override IEnumerable<string> Names(string pool) =>
        Spec(pool) is { } spec ? [.. spec.Hosts.Select(h => h.Name), .. spec.Services.Select(s => s.Name), .. Sessions.ServersOf(pool)] : Sessions.ServersOf(pool);
}

/// <summary>Completes the ids of stored plans, newest first.</summary>
public sealed class PlanCompleter : NameCompleter
{
    private protected override IEnumerable<string> Names(string pool)
    {
        // Files only, as for the pool's own file.
        var opening = Sessions.RentAsync(pool, false, CancellationToken.None);
        if (!opening.IsCompleted)
            return [];
        using var lease = opening.GetAwaiter().GetResult();
        var reading = lease.Session.GetPlansAsync(CancellationToken.None);
        return reading.IsCompleted ? [.. reading.GetAwaiter().GetResult().Select(p => p.Id.ToString())] : [];
    }
}
