using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;
using System.Threading.Tasks;

namespace VMatrix.Commands;

/// <summary>Checks a pool file: true or false, or every finding.</summary>
[Cmdlet(VerbsDiagnostic.Test, "VMatrixPool")]
[OutputType(typeof(bool), typeof(PoolFinding))]
public sealed class TestVMatrixPoolCommand : ReadingCommand
{
    /// <summary>The pool: the path of its file or folder.</summary>
    [Parameter(Position = 0, ValueFromPipeline = true)]
    [Alias("Path", "FullName")]
    [ValidateNotNull]
    public override PoolIdentity? Pool { get; set; }

    /// <summary>Returns every mistake as an object, instead of true or false.</summary>
    [Parameter]
    public SwitchParameter Detailed { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord() => ForItem(Pool, null, () =>
    {
        string path = PoolPath;
        var findings = Await("Reading the pool file", _ => Task.FromResult(PoolSession.Check(path)));
        if (findings.Count == 0)
            findings = CheckBalancer(path);
        if (Detailed)
            WriteObject(findings, true);
        else
            WriteObject(findings.Count == 0);
        foreach (var finding in findings)
            WriteVerbose(finding.ToString());
    });

    // A balancer that the pool joins has a file of its own, whose owner must know what does not fit.
    private IReadOnlyList<PoolFinding> CheckBalancer(string path)
    {
        try
        {
            var found = Await("Looking at the balancer", cancellation => PoolSession.CheckBalancerAsync(path, cancellation));
            foreach (var warning in found.Where(f => !f.IsRefusal))
                WriteWarning(warning.Text);
            return [.. found.Where(f => f.IsRefusal).Select(f => new PoolFinding(path, 1, 1, "balancer", f.Service, f.Text))];
        }
        catch (VMatrixException e) when (e.Kind is VMatrixErrorKind.Unreachable or VMatrixErrorKind.Timeout)
        {
            WriteWarning($"The pool file has no mistake, and whether its balancer takes servers could not be seen: {e.Message}");
            return [];
        }
        catch (VMatrixException e)
        {
            return [new PoolFinding(path, 1, 1, "balancer", "", e.Message)];
        }
    }
}
