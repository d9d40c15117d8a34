@{
    RootModule             = 'VMatrix.psm1'
    ModuleVersion          = '0.1.0'
    GUID                   = '5b0f6d0e-3c0a-4d0b-9a43-7b8f2f1f6c52'
    Author                 = 'The VMatrix authors'
    CompanyName            = 'The VMatrix authors'
    Copyright              = 'Copyright (c) 2026 The VMatrix authors'
    Description            = 'Turns a pool of real machines into a switch for virtual servers: services get servers where the load is, and give them back where it is not.'
    PowerShellVersion      = '5.1'
    CompatiblePSEditions   = @('Desktop', 'Core')
    DotNetFrameworkVersion = '4.7.2'
    FunctionsToExport      = @()
    AliasesToExport        = @()
    VariablesToExport      = @()
    CmdletsToExport        = @(
        'Approve-VMatrixPlan'
        'Compare-VMatrixServer'
        'Connect-VMatrixHost'
        'Disconnect-VMatrixHost'
        'Get-VMatrixHost'
        'Get-VMatrixMove'
        'Get-VMatrixPlan'
        'Get-VMatrixPool'
        'Get-VMatrixServer'
        'Get-VMatrixService'
        'Invoke-VMatrixSimulation'
        'Invoke-VMatrixSwitch'
        'Move-VMatrixServer'
        'New-VMatrixPlan'
        'New-VMatrixServer'
        'Publish-VMatrixImage'
        'Register-VMatrixServer'
        'Remove-VMatrixServer'
        'Restore-VMatrixServer'
        'Resume-VMatrixHost'
        'Resume-VMatrixMove'
        'Set-VMatrixService'
        'Suspend-VMatrixHost'
        'Test-VMatrixPool'
        'Undo-VMatrixMove'
        'Unregister-VMatrixServer'
        'Update-VMatrixService'
    )
    PrivateData            = @{
        PSData = @{
            Tags         = @('virtualization', 'load-balancing', 'autoscaling', 'QEMU', 'HAProxy', 'Hyper-V', 'PSEdition_Core', 'PSEdition_Desktop', 'Linux', 'Windows', 'MacOS')
            LicenseUri   = 'https://opensource.org/license/mit'
            ReleaseNotes = 'See CHANGELOG.md in the module''s folder.'
        }
    }
}
