namespace VMatrix;

/// <summary>Something in a balancer's setup that its owner must change.</summary>
/// <param name="Service">The service that it concerns.</param>
/// <param name="IsRefusal">True where the service's servers cannot serve as it is; false where they serve otherwise than the owner may expect.</param>
/// <param name="Text">What is wrong and what to write where, as sentences.</param>
public sealed record BalancerFinding(string Service, bool IsRefusal, string Text)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Service}: {Text}";
}
